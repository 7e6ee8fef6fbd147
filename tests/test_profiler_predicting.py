"""What a prediction says of where its figures come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luts.condition import Condition
from luts.records import Figure, Subject
from luts.store import MeasurementStore
from luts.table import LatencyTable
from predictors import latency
from profiler.cli.main import run
from profiler.predicting import Prediction
from supernets.places import distinct_blocks
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
LARGEST = TINY.blocks(TINY.largest())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table in which every third block of the largest network was interpolated; the others were another tool's."""
    path = tmp_path / "mixed.lut"
    interpolated = {block.key for block in LARGEST[::3]}
    with MeasurementStore(path) as store:
        store.set_condition(Condition("desk", "onnxruntime", "1.31.1", "cpu", 1, (0,), 1, "float32", "some CPU"))
        store.set_collection({"space": TINY.name})
        blocks = list(distinct_blocks(TINY))
        store.add_subjects([Subject.of_block(block) for block in blocks])
        origins = {block.key: "interpolated" if block.key in interpolated else "imported" for block in blocks}
        store.set_figures([Figure(key, "chain", 1e5, None, {}, origin) for key, origin in origins.items()])
    return path


@pytest.fixture
def subnet(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(TINY.largest().to_dict()))
    return path


def counts() -> tuple[int, int, int]:
    keys, interpolated = [block.key for block in LARGEST], {block.key for block in LARGEST[::3]}
    count = sum(key in interpolated for key in keys)
    return count, len(keys) - count, len(keys)


def test_what_was_not_measured_is_counted_by_origin() -> None:
    def said(**origins: int) -> str | None:
        return Prediction(1, 1, {}, {}, None, origins).unmeasured()

    assert said(measured=5, interpolated=7) == "7 of 12 blocks interpolated"
    assert said(interpolated=2, imported=3) == "2 of 5 blocks interpolated, 3 of 5 imported"
    assert said(measured=5) is None
    assert said() is None


def test_a_prediction_says_how_many_blocks_were_not_measured(table: Path, subnet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interpolated, imported, blocks = counts()
    assert run(["predict", "--subnet", str(subnet), "--table", str(table)]) == 0
    assert f"{interpolated} of {blocks} blocks interpolated, {imported} of {blocks} imported" in " ".join(capsys.readouterr().out.split())
    assert run(["predict", "--subnet", str(subnet), "--table", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["block_origins"] == {"interpolated": interpolated, "imported": imported}


def test_a_saved_sum_of_a_table_still_says_so(table: Path, subnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interpolated, imported, _ = counts()
    latency.create("additive", TINY, LatencyTable.open(table)).save(tmp_path / "additive")
    assert run(["predict", "--subnet", str(subnet), "--latency", str(tmp_path / "additive"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["block_origins"] == {"interpolated": interpolated, "imported": imported}
