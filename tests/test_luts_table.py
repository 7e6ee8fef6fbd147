from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from luts.condition import Condition
from luts.store import MeasurementStore, StoreError, Subject
from luts.table import Entry, LatencyTable, MissingBlockError
from supernets.blocks import BlockSpec
from supernets.spaces import space

CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
TINY = space("ofa-mobilenetv3-tiny")
BLOCKS = TINY.blocks(TINY.smallest())
A, B, C, D, *_ = BLOCKS


def entry(block: BlockSpec, latency_ms: float = 1.0, **fields) -> Entry:
    return Entry(block, **{"latency_ms": latency_ms, "origin": "measured", "relative_spread": 0.01, "visits": 2, "samples": 6, **fields})


def table(*entries: Entry) -> LatencyTable:
    return LatencyTable(CONDITION, "chain", entries)


@pytest.fixture
def path(tmp_path):
    """A file where block A took 1 ms in chains and 0.5 ms alone, B 2 ms and 1 ms; C was measured alone only."""
    path = tmp_path / "cpu.lut"
    with MeasurementStore(path) as store:
        fill(store, CONDITION)
        store.finish()
    return path


def fill(store: MeasurementStore, condition: Condition) -> None:
    store.set_condition(condition)
    store.set_collection({"space": TINY.name, "settings": {}})
    store.add_subjects([Subject(block.key, "block", "", {k: v for k, v in block.to_dict().items() if k != "name"}) for block in (A, B, C)])
    spec = {"name": "smallest", "architecture": TINY.smallest().to_dict(), "blocks": [block.to_dict() for block in BLOCKS]}
    store.add_subjects(
        [Subject("n1", "network", "calibration", spec), Subject("n2", "network", "held_out", {**spec, "architecture": None, "name": "file"})]
    )
    for number in range(4):
        store.add_visit(f"c{number}", "chain", number, [A.key, B.key], np.array([[1_000_000] * 3, [2_000_000] * 3]))
        store.add_visit(f"a{number}", "alone", number, [A.key], np.array([[500_000] * 10]))
        store.add_visit(f"b{number}", "alone", number, [B.key], np.array([[1_000_000] * 10]))
        store.add_visit(f"n{number}", "network", number, ["n1"], np.array([[3_000_000 + number * 100_000] * 5]))
    store.add_visit("c", "alone", 0, [C.key], np.array([[250_000] * 10]))
    store.add_visit("f", "network", 0, ["n2"], np.array([[4_000_000] * 5]))


# --- conditions --------------------------------------------------------------------------------------------------------


def test_a_condition_survives_json():
    assert Condition.from_dict(json.loads(json.dumps(CONDITION.to_dict()))) == CONDITION


def test_a_condition_with_an_unknown_a_missing_or_an_impossible_field_is_refused():
    with pytest.raises(ValueError, match="field 'mood' of a condition is unknown or missing"):
        Condition.from_dict({**CONDITION.to_dict(), "mood": 1})
    with pytest.raises(ValueError, match="field 'threads' of a condition is unknown or missing"):
        Condition.from_dict({name: value for name, value in CONDITION.to_dict().items() if name != "threads"})
    with pytest.raises(ValueError, match="threads is 0"):
        replace(CONDITION, threads=0)
    with pytest.raises(ValueError, match="device is ''"):
        replace(CONDITION, device="")


def test_differences_name_the_fields_that_differ_with_both_values():
    assert CONDITION.differences(replace(CONDITION, batch=8, cores=(0, 1))) == {"cores": ((1,), (0, 1)), "batch": (1, 8)}
    assert CONDITION.differences(CONDITION) == {}


# --- tables from files -------------------------------------------------------------------------------------------------


def test_each_mode_of_a_file_is_a_table_of_its_own(path):
    chain, alone = LatencyTable.open(path), LatencyTable.open(path, mode="alone")
    assert {key: e.latency_ms for key, e in chain.entries.items()} == {A.key: 1.0, B.key: 2.0}
    assert {key: e.latency_ms for key, e in alone.entries.items()} == {A.key: 0.5, B.key: 1.0, C.key: 0.25}
    assert (chain.mode, chain.condition, chain.space, chain.source) == ("chain", CONDITION, TINY.name, str(path))


def test_an_entry_says_what_it_rests_on(path):
    found = LatencyTable.open(path).entry(A)
    assert found == Entry(A, 1.0, "measured", 0.0, visits=4, samples=12)
    assert LatencyTable.open(path, "alone").entry(C).relative_spread is None  # one visit knows no spread


def test_a_block_that_stands_twice_in_a_chain_is_one_visit_of_more_samples(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        fill(store, CONDITION)
        store.add_visit("twice", "chain", 9, [A.key, B.key, A.key], np.array([[1_000_000] * 3, [2_000_000] * 3, [1_000_000] * 3]))
        found = LatencyTable.of_store(store).entry(A)
    assert (found.visits, found.samples) == (5, 18)


def test_figures_of_the_simulated_device_never_count_as_measured(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        fill(store, replace(CONDITION, device="simulated"))
        assert {e.origin for e in LatencyTable.of_store(store).entries.values()} == {"simulated"}


def test_networks_come_with_architecture_blocks_role_and_halves(path):
    first, second = LatencyTable.open(path).networks()
    assert (first.architecture, first.blocks, first.role, first.name) == (TINY.smallest(), tuple(BLOCKS), "calibration", "smallest")
    assert (first.visits, first.samples) == (4, 20)
    assert first.latency_ms == pytest.approx(np.percentile(np.repeat([3.0, 3.1, 3.2, 3.3], 5), 10))
    assert first.halves_ms == (3.0, pytest.approx(3.1))
    assert (second.architecture, second.role, second.relative_spread, second.latency_ms) == (None, "held_out", None, 4.0)
    assert [network.role for network in LatencyTable.open(path).networks("held_out")] == ["held_out"]


def test_opening_a_table_leaves_the_file_as_it_is(path):
    before = path.read_bytes()
    LatencyTable.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["cpu.lut"]


def test_a_file_without_latencies_is_no_table(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.set_provenance({"x": 1})
    with pytest.raises(StoreError, match=r"a\.lut holds no latencies yet; measure them with `profiler collect`"):
        LatencyTable.open(tmp_path / "a.lut")


def test_a_table_of_a_database_of_another_kind_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.lut")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="another kind"):
        LatencyTable.open(tmp_path / "a.lut")


# --- look-ups and sums -------------------------------------------------------------------------------------------------


def test_the_latency_of_blocks_is_their_sum_each_place_counted():
    assert table(entry(A, 1.0), entry(B, 2.5)).latency_ms([A, B, A]) == 4.5
    assert table().latency_ms([]) == 0.0


def test_a_block_is_looked_up_by_what_it_computes_not_by_its_place():
    elsewhere = replace(A, name="elsewhere")
    assert table(entry(A, 3.0)).entry(elsewhere).latency_ms == 3.0
    assert table(entry(A, 3.0)).missing([elsewhere]) == []


def test_lookup_of_an_unmeasured_block_names_the_block():
    with pytest.raises(MissingBlockError, match=r"1 of 1 different blocks are not in this table \(mode chain\): " + B.key) as error:
        table(entry(A)).entry(B)
    assert error.value.blocks == (B,)
    assert isinstance(error.value, KeyError)


def test_a_sum_with_missing_rows_says_how_many_names_three_and_tells_the_command(path):
    opened = LatencyTable.open(path)
    with pytest.raises(MissingBlockError) as error:
        opened.latency_ms([*BLOCKS, *BLOCKS])
    different = list(dict.fromkeys(BLOCKS))
    missing = [block for block in different if block not in (A, B)]
    assert error.value.blocks == tuple(missing)
    assert opened.missing([*BLOCKS, *BLOCKS]) == missing
    text = str(error.value)
    assert f"{len(missing)} of {len(different)} different blocks are not in {path}" in text
    assert ", ".join(block.key for block in missing[:3]) + ", ...;" in text
    assert missing[3].key not in text
    assert f"which was measured for space {TINY.name}" in text
    assert text.endswith("profiler collect --space SPACE --device local --out FILE")


def test_three_missing_rows_are_all_named():
    with pytest.raises(MissingBlockError, match=f"{B.key}, {C.key}, {D.key};"):
        table(entry(A)).latency_ms([A, B, C, D])


def test_entries_cannot_be_changed():
    with pytest.raises(TypeError):
        table(entry(A)).entries[A.key] = entry(A, 2.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"origin": "guessed"}, "origin of block .* is 'guessed'"),
        ({"latency_ms": 0.0}, "is 0.0; expected more"),
        ({"latency_ms": float("nan")}, "is nan; expected more"),
    ],
)
def test_an_entry_without_origin_or_latency_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        entry(A, **fields)


def test_an_unknown_mode_is_refused(path):
    with pytest.raises(ValueError, match="mode of a latency table is 'prefix'; expected one of chain, alone"):
        LatencyTable.open(path, mode="prefix")
