from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luts.accuracies import AccuracyProtocol
from luts.condition import Condition
from luts.merging import MergeSummary, merge_into, whole_visits
from luts.records import Figure, Outcome, StoredWarning
from luts.store import MeasurementStore, StoreError, Subject
from luts.table import LatencyTable
from supernets.spaces import space

CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
TINY = space("ofa-mobilenetv3-tiny")
BLOCKS = TINY.blocks(TINY.smallest())
A, B, C, *_ = BLOCKS


@pytest.fixture
def new_store(tmp_path):
    """Make stores that declare blocks A, B, C and a network; closed at the end."""
    opened = []

    def new(name: str, condition: Condition = CONDITION) -> MeasurementStore:
        store = MeasurementStore(tmp_path / name)
        opened.append(store)
        store.set_condition(condition)
        store.set_provenance({"sessions": [{"name": name}]})
        store.set_collection({"space": TINY.name, "seed": name})
        store.add_subjects([Subject(block.key, "block", "", {k: v for k, v in block.to_dict().items() if k != "name"}) for block in (A, B, C)])
        spec = {"name": "smallest", "architecture": TINY.smallest().to_dict(), "blocks": [block.to_dict() for block in BLOCKS]}
        store.add_subject("n1", "network", spec, "calibration")
        return store

    yield new
    for store in opened:
        store.close()


def visit(store: MeasurementStore, plan_id: str, day: int | None, ms: float, keys=(A.key, B.key), **fields) -> None:
    state = {} if day is None else {"unix_time_ns": day}
    samples = np.full((len(keys), 3), int(ms * 1e6))
    store.add_visit(plan_id, fields.pop("mode", "chain"), 1, list(keys), samples, (state, state), "w", **fields)


def ids(store: MeasurementStore) -> list[str]:
    return [each.record.plan_id for each in whole_visits(store)]


def test_all_visits_of_both_are_in_the_merged_store_with_their_samples_states_and_repeats(new_store):
    one, two = new_store("one"), new_store("two")
    visit(one, "a", 1, 1.0)
    visit(two, "b", 2, 3.0, repeats=4, discarded="throttled")
    visit(two, "c", 3, 2.0, keys=[C.key], mode="alone")
    visit(two, "n", 4, 9.0, keys=["n1"], mode="network")
    assert merge_into(one, two) == MergeSummary(visits=3, visits_before=0, figures=0)
    there = {each.record.plan_id: each for each in whole_visits(one)}
    for each in whole_visits(two):
        found = there[each.record.plan_id]
        assert replace(found.record, number=0, round=0) == replace(each.record, number=0, round=0)
        assert found.record.round == 2 + each.record.round  # rounds of different sessions stay apart
        assert found.subjects == each.subjects
        assert np.array_equal(found.samples, each.samples)
    assert LatencyTable.of_store(one, "alone").entry(C).latency_ms == 2.0
    assert len(LatencyTable.of_store(one).networks()) == 1


def test_added_visits_of_blocks_and_networks_stay_in_order_of_time(new_store):
    one, two = new_store("one"), new_store("two")
    visit(one, "a", 1, 1.0)
    for number, (plan_id, mode, keys) in enumerate([("n", "network", ["n1"]), ("b", "chain", [A.key]), ("m", "network", ["n1"])]):
        visit(two, plan_id, 10 + number, 2.0, keys, mode=mode)
    merge_into(one, two)
    in_order = sorted(whole_visits(one), key=lambda each: each.record.number)
    assert [each.record.plan_id for each in in_order] == ["a", "n", "b", "m"]


def test_two_collections_by_one_plan_keep_both_measurements_of_each_visit(new_store):
    one, two = new_store("one"), new_store("two")
    visit(one, "a", 1, 1.0)
    visit(two, "a", 2, 3.0)
    assert merge_into(one, two).visits == 1
    assert ids(one)[0] == "a" and ids(one)[1].startswith("a+")
    assert LatencyTable.of_store(one).entry(A).visits == 2


def test_a_visit_both_have_is_there_once_and_merging_again_adds_nothing(new_store):
    one, two = new_store("one"), new_store("two")
    for store in (one, two):
        visit(store, "a", 1, 1.0)
        visit(store, "d", 1, 5.0, discarded="throttled")
    visit(two, "b", 2, 2.0)
    assert merge_into(one, two) == MergeSummary(visits=1, visits_before=2, figures=0)
    assert merge_into(one, two) == MergeSummary(visits=0, visits_before=3, figures=0)
    assert sorted(ids(one)) == ["a", "b", "d"]


def test_different_samples_of_one_moment_are_refused(new_store):
    one, two = new_store("one"), new_store("two")
    visit(one, "a", 1, 1.0)
    visit(two, "a", 1, 3.0)
    with pytest.raises(StoreError, match="visit 'a' is in cpu.lut and in .*two with different samples, though made at one time"):
        merge_into(one, two, "cpu.lut")


def test_visits_of_a_device_without_a_clock_are_told_apart_by_their_samples(new_store):
    one, two = new_store("one"), new_store("two")
    visit(one, "a", None, 1.0)
    visit(two, "a", None, 3.0)
    assert merge_into(one, two).visits == 1


def test_different_conditions_are_refused_naming_the_fields(new_store):
    one, two = new_store("one"), new_store("two", replace(CONDITION, threads=2, runtime_version="1.30"))
    visit(one, "a", 1, 1.0)
    visit(two, "b", 1, 1.0)
    with pytest.raises(StoreError, match=r"different conditions \(runtime_version '1.31.1' and '1.30'; threads 1 and 2\)"):
        merge_into(one, two)
    assert ids(one) == ["a"]


def test_stores_without_latencies_or_with_accuracies_are_refused(new_store, tmp_path):
    one = new_store("one")
    with MeasurementStore(tmp_path / "empty") as empty, pytest.raises(StoreError, match="empty holds no latencies"):
        merge_into(one, empty)
    protocol = AccuracyProtocol(TINY.name, "0" * 64, "images", 8, 8, 0, "float32")
    two = new_store("two")
    two.add_accuracies(protocol, [(TINY.smallest(), 0.5, bytes([0b11110000]))])
    with pytest.raises(StoreError, match="two holds sampled accuracies"):
        merge_into(one, two)


def test_figures_without_samples_are_joined_and_contradicting_ones_refused(new_store):
    one, two = new_store("one"), new_store("two")
    figure = Figure(A.key, "chain", 1e6, None, {}, "imported", 0, 500)
    one.set_figures([figure])
    two.set_figures([figure, replace(figure, key=B.key)])
    assert merge_into(one, two).figures == 1
    assert [found.key for found in one.figures()] == [A.key, B.key]
    two.set_figures([replace(figure, latency_ns=2e6)])
    with pytest.raises(StoreError, match="have different imported figures of .* of which no samples are known"):
        merge_into(one, two)


def test_sessions_warnings_and_the_surer_outcomes_are_kept(new_store):
    one, two = new_store("one"), new_store("two")
    warning = StoredWarning("busy", {"load": 3}, "the device was busy", 1.0)
    one.set_warnings([warning])
    two.set_warnings([warning, replace(warning, code="hot")])
    one.set_outcomes([Outcome(A.key, "chain", "time", 0.03, 5), Outcome(B.key, "chain", "target", 0.01, 5)])
    two.set_outcomes([Outcome(A.key, "chain", "target", 0.01, 9), Outcome(B.key, "chain", "time", None, 2), Outcome(C.key, "alone", "time", None, 1)])
    merge_into(one, two)
    assert [found.code for found in one.warnings()] == ["busy", "hot"]
    assert {(found.key, found.visits) for found in one.outcomes()} == {(A.key, 9), (B.key, 5), (C.key, 1)}
    assert one.provenance()["sessions"] == [{"name": "one"}, {"name": "two"}]
    assert one.collection() == {"space": TINY.name}  # neither plan made all the visits
