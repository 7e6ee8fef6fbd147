"""`profiler table`: each command on small tables, called as the program calls it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from luts.condition import Condition
from luts.store import MeasurementStore, Subject
from luts.table import LatencyTable
from profiler.cli.main import run
from supernets.places import distinct_blocks
from supernets.spaces import space

CONDITION = Condition("phone", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
NAME = "ofa-mobilenetv3-tiny"
TINY = space(NAME).restrict({"resolution": (24, 28)})
BLOCKS = distinct_blocks(TINY)
FOREIGN = ["--device", "note10", "--runtime", "tflite", "--threads", "1", "--batch", "1"]


def collected(path: Path, condition: Condition = CONDITION, seed: int = 0) -> Path:
    """Write a table as a collection leaves it: chains, blocks alone, and a whole network, of two resolutions."""
    rng = np.random.default_rng(seed)
    spec = {"name": "smallest", "architecture": TINY.smallest().to_dict(), "blocks": [b.to_dict() for b in TINY.blocks(TINY.smallest())]}
    with MeasurementStore(path) as store:
        store.set_condition(condition)
        store.set_collection({"space": NAME, "settings": {}})
        store.add_subjects([Subject(b.key, "block", "", {k: v for k, v in b.to_dict().items() if k != "name"}) for b in BLOCKS])
        store.add_subject("n1", "network", spec, "calibration")
        keys = [block.key for block in BLOCKS]
        for number in range(3):
            state = {"unix_time_ns": 1000 * seed + number}
            samples = np.array([rng.integers(900_000, 1_100_000, size=4) * (1 + i % 7) for i in range(len(keys))])
            store.add_visit(f"c{number}", "chain", number, keys, samples, (state, state))
        store.add_visit("a", "alone", 0, keys[:3], samples[:3], ({"unix_time_ns": 1000 * seed}, {}))
        store.add_visit("n", "network", 0, ["n1"], np.array([[9_000_000] * 5]))
    return path


@pytest.fixture
def lut(tmp_path) -> Path:
    return collected(tmp_path / "cpu.lut")


def told(capsys, *arguments: object) -> str:
    """Run a command that ends well and return what it printed on either stream."""
    code = run(["table", *map(str, arguments)])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out + out.err


def refused(capsys, *arguments: object, code: int = 1) -> str:
    """Run a command that fails as expected, and return its one line."""
    assert run(["table", *map(str, arguments)]) == code
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert "unexpected" not in out.err
    return out.err


def figures(path: Path, mode: str = "chain") -> dict[str, float]:
    return {key: entry.latency_ms for key, entry in LatencyTable.open(path, mode).entries.items()}


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_export_and_import_give_the_same_table_with_origin_and_condition(capsys, tmp_path, lut, ending):
    file, back = tmp_path / f"t.{ending}", tmp_path / "back.lut"
    said = told(capsys, "export", lut, "--out", file)
    assert f"holds {len(BLOCKS)} blocks" in said
    assert "note: the raw samples of the visits are left out" in said
    assert "note: the figures of mode alone are left out" in said
    assert ("whole networks" in said) == (ending != "json")
    told(capsys, "import", file, "--out", back)
    before, after = LatencyTable.open(lut), LatencyTable.open(back)
    assert (after.condition, after.mode, after.space) == (before.condition, before.mode, before.space)
    assert figures(back) == pytest.approx(figures(lut), rel=1e-14)
    for key, entry in before.entries.items():
        found = after.entries[key]
        assert (found.origin, found.relative_spread, found.visits, found.samples) == ("measured", entry.relative_spread, entry.visits, entry.samples)
    if ending == "json":
        (one,), (two,) = before.networks(), after.networks()
        assert (two.architecture, two.blocks, two.role, two.latency_ms) == (one.architecture, one.blocks, one.role, one.latency_ms)
    with MeasurementStore(back, read_only=True) as store:
        (source,) = store.provenance()["imported"]
    assert source == {"format": ending, "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_a_folder_of_yaml_has_a_file_a_resolution_and_comes_back_as_imported_figures(capsys, tmp_path, lut):
    folder, back = tmp_path / "tables", tmp_path / "back.lut"
    said = told(capsys, "export", lut, "--format", "ofa-yaml", "--out", folder)
    assert sorted(os.listdir(folder)) == ["24_lookup_table.yaml", "28_lookup_table.yaml"]
    assert "note: the condition" in said
    told(capsys, "import", folder, "--format", "ofa-yaml", "--out", back, "--space", NAME, *FOREIGN)
    found = LatencyTable.open(back)
    assert figures(back) == pytest.approx(figures(lut))
    assert {entry.origin for entry in found.entries.values()} == {"imported"}
    assert (found.condition.device, found.condition.runtime, found.condition.precision) == ("note10", "tflite", "unknown")
    shown = told(capsys, "show", back)
    assert "imported" in shown and "24_lookup_table.yaml (ofa-yaml" in shown
    assert found.latency_ms(TINY.blocks(TINY.largest())) == pytest.approx(LatencyTable.open(lut).latency_ms(TINY.blocks(TINY.largest())))


def test_blocks_a_format_has_no_key_for_are_not_counted_as_held(capsys, tmp_path, lut):
    said = told(capsys, "export", lut, "--format", "proxyless-yaml", "--out", tmp_path / "tables")
    left = sum(block.se_channels > 0 or block.activation not in ("none", "relu6") for block in BLOCKS)
    assert f"holds {len(BLOCKS) - left} blocks in 2 files" in said
    assert f"note: {left} blocks are left out, for which the format has no key: " in said


def test_a_table_of_alone_is_exported_and_imported_as_alone(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--out", tmp_path / "t.csv", "--mode", "alone")
    told(capsys, "import", tmp_path / "t.csv", "--out", tmp_path / "back.lut")
    assert figures(tmp_path / "back.lut", "alone") == pytest.approx(figures(lut, "alone"))
    assert figures(tmp_path / "back.lut") == {}
    assert "no figures of mode chain; export another mode" in refused(capsys, "export", tmp_path / "back.lut", "--out", tmp_path / "u.csv")


def test_an_imported_table_can_be_predicted_from(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--out", tmp_path / "t.csv")
    told(capsys, "import", tmp_path / "t.csv", "--out", tmp_path / "back.lut")
    (tmp_path / "a.json").write_text(json.dumps(TINY.largest().to_dict()))
    assert run(["predict", "--subnet", str(tmp_path / "a.json"), "--table", str(tmp_path / "back.lut"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["latencies_ms"]["sum of the table"] == pytest.approx(LatencyTable.open(lut).latency_ms(TINY.blocks(TINY.largest())))


def test_a_table_of_others_needs_its_condition_said(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--format", "ofa-yaml", "--out", tmp_path / "tables")
    said = refused(capsys, "import", tmp_path / "tables", "--format", "ofa-yaml", "--out", tmp_path / "b.lut", "--device", "note10")
    assert "does not say under which condition it was measured; say it with --runtime, --threads, --batch" in said
    assert not (tmp_path / "b.lut").exists()


def test_what_is_given_may_not_contradict_what_the_file_says(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--out", tmp_path / "t.csv")
    back = tmp_path / "b.lut"
    assert "was measured with device 'phone', but 'note10' was given" in refused(
        capsys, "import", tmp_path / "t.csv", "--out", back, "--device", "note10"
    )
    assert "was measured with mode 'chain', but 'alone' was given" in refused(capsys, "import", tmp_path / "t.csv", "--out", back, "--mode", "alone")
    told(capsys, "import", tmp_path / "t.csv", "--out", back, "--device", "phone", "--cores", "1", "--mode", "chain")


def test_nothing_is_overwritten_and_nothing_half_is_left(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--out", tmp_path / "t.csv")
    assert f"{lut} exists already" in refused(capsys, "import", tmp_path / "t.csv", "--out", lut)
    assert f"{lut} exists already" in refused(capsys, "merge", lut, lut, "--out", lut)
    before = sorted(os.listdir(tmp_path))
    (tmp_path / "t.csv").write_text("key\nrubbish\n")
    refused(capsys, "import", tmp_path / "t.csv", "--out", tmp_path / "b.lut")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("form", ["ofa-yaml", "proxyless-yaml", "csv", "parquet", "json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"a: [b", b"{}", b"1,2\n3", b"PAR1PAR1"], ids=range(6))
def test_a_file_of_garbage_is_refused_in_one_line_that_names_it(capsys, tmp_path, form, content):
    (tmp_path / "garbage").write_bytes(content)
    said = refused(capsys, "import", tmp_path / "garbage", "--format", form, "--out", tmp_path / "b.lut", *FOREIGN)
    assert f"{tmp_path / 'garbage'} cannot be read as {form}: " in said


def test_sources_that_are_no_files_are_refused(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "empty").mkdir()
    with open(tmp_path / "huge.csv", "wb") as file:
        file.truncate(2**29)
    out = ["--out", tmp_path / "b.lut"]
    assert "there is no file" in refused(capsys, "import", tmp_path / "pipe.csv", *out)
    assert "there is no file" in refused(capsys, "import", tmp_path / "none.csv", *out)
    assert "there is no file" in refused(capsys, "import", tmp_path / "empty", "--format", "csv", *out)
    assert "has no .yaml files" in refused(capsys, "import", tmp_path / "empty", "--format", "ofa-yaml", *out)
    assert "has 536870912 bytes, no latency table has more than" in refused(capsys, "import", tmp_path / "huge.csv", *out)


def test_a_format_is_told_by_name_or_ending(capsys, tmp_path, lut):
    assert "says no format; name one with --format: ofa-yaml" in refused(capsys, "export", lut, "--out", tmp_path / "t.yaml", code=2)
    assert "unknown format 'xls'; known formats" in refused(capsys, "export", lut, "--out", tmp_path / "t", "--format", "xls", code=2)
    assert "has no option 'spread'" in refused(capsys, "export", lut, "--out", tmp_path / "t.csv", "--spread", "var", code=2)
    told(capsys, "export", lut, "--out", tmp_path / "t", "--format", "ofa-yaml", "--spread", "var", "--expand", "ratio")
    assert "var: " in (tmp_path / "t" / "28_lookup_table.yaml").read_text()


def test_merge_makes_one_table_with_the_visits_of_both(capsys, tmp_path, lut):
    other, before = collected(tmp_path / "other.lut", seed=1), lut.read_bytes()
    said = told(capsys, "merge", lut, other, "--out", tmp_path / "both.lut")
    assert f"holds {lut}, and 4 visits of {other}, 1 were in {lut} already" in said
    entry = LatencyTable.open(tmp_path / "both.lut").entry(BLOCKS[0])
    assert (entry.visits, entry.samples) == (6, 24)
    assert lut.read_bytes() == before


def test_merge_refuses_another_condition_naming_the_field_and_the_files(capsys, tmp_path, lut):
    from dataclasses import replace

    other = collected(tmp_path / "other.lut", replace(CONDITION, threads=4))
    said = refused(capsys, "merge", lut, other, "--out", tmp_path / "both.lut")
    assert f"{lut} and {other} were measured under different conditions (threads 1 and 4); merge tables of one condition" in said
    assert not (tmp_path / "both.lut").exists()


def test_compare_shows_ratios_worst_blocks_and_ranks_of_networks(capsys, tmp_path, lut):
    other = collected(tmp_path / "other.lut", seed=1)
    found = json.loads(told(capsys, "compare", lut, other, "--json", "--limit", "3"))
    assert found["blocks"]["blocks"] == len(BLOCKS)
    assert found["blocks"]["ratios"]["50"] == pytest.approx(1, abs=0.1)
    assert len(found["blocks"]["worst"]) == 3
    assert found["conditions"] == {}
    networks = found["networks"]
    assert networks["space"] == NAME and networks["networks"] == 1000 and networks["resolutions"] == [24, 28]
    assert networks["spearman"] > 0.8 and networks["kendall"] > 0.6
    text = told(capsys, "compare", lut, other)
    assert "Farthest from the median ratio" in text and "1000 random networks" in text


def test_compare_of_different_conditions_says_what_differs(capsys, tmp_path, lut):
    from dataclasses import replace

    other = collected(tmp_path / "other.lut", replace(CONDITION, runtime="litert"), seed=1)
    assert json.loads(told(capsys, "compare", lut, other, "--json"))["conditions"] == {"runtime": ["onnxruntime", "litert"]}
    assert "Conditions differ" in told(capsys, "compare", lut, other)


def test_compare_of_tables_without_a_space_compares_blocks_only(capsys, tmp_path, lut):
    told(capsys, "export", lut, "--format", "ofa-yaml", "--out", tmp_path / "tables")
    told(capsys, "import", tmp_path / "tables", "--format", "ofa-yaml", "--out", tmp_path / "b.lut", *FOREIGN)
    assert json.loads(told(capsys, "compare", lut, tmp_path / "b.lut", "--json"))["networks"] is None
    assert json.loads(told(capsys, "compare", lut, tmp_path / "b.lut", "--json", "--space", NAME))["networks"]["spearman"] == pytest.approx(1)
    assert "have no block in common" in refused(capsys, "compare", lut, tmp_path / "b.lut", "--mode", "alone")
