from __future__ import annotations

import numpy as np
import pytest

from luts.condition import Condition
from luts.records import Figure, Outcome
from luts.store import MeasurementStore, Subject
from luts.table import LatencyTable
from profiler.measuring.evidence import Evidence
from profiler.report import display
from profiler.report.session import Session, anchor_sentence, figures, rule_rows, sentence, session
from supernets.places import distinct_blocks
from supernets.spaces import space

BLOCKS = distinct_blocks(space("ofa-mobilenetv3-tiny"))[:3]
CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "some")


@pytest.fixture
def store(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.set_condition(CONDITION)
        store.add_subjects([Subject(b.key, "block", "", {k: v for k, v in b.to_dict().items() if k != "name"}) for b in BLOCKS])
        yield store


def visit(store, plan, mode, block, run_ns, round=0):
    store.add_visit(plan, mode, round, [block.key], np.full((1, 4), run_ns), worker=f"w{round}")


def of(store) -> Session:
    return session(LatencyTable.of_store(store), Evidence.of_store(store), store.outcomes())


def test_what_older_tables_never_noted_is_told_as_unknown(store):
    for number in range(10):
        visit(store, f"{number}", "chain", BLOCKS[0], 1000)
    found = of(store)
    assert found.anchor == () and found.rules == {}
    assert "Drift is unknown" in anchor_sentence(found)
    assert ("Which rule ended the blocks", "unknown") in figures(found)


def test_the_share_of_time_in_a_slow_state_counts_time_not_visits(store):
    for number in range(10):
        visit(store, f"{number}", "chain", BLOCKS[0], 3000 if number < 2 else 1000)
    assert of(store).slow_shares == {"chain": pytest.approx(6 / 14)}
    assert ("Time in a slow state, blocks in chains", f"43{display.NARROW_SPACE}%") in figures(of(store))


def test_the_anchors_drift_is_told_round_by_round(store):
    for number in range(10):
        visit(store, f"{number}", "chain", BLOCKS[0], 1000, number // 5)
        visit(store, f"a{number}", "anchor", BLOCKS[1], 1000 if number < 5 else 1050, number // 5)
    found = of(store)
    assert found.anchor == ((0, 1.0), (1, pytest.approx(1.05)))
    text = anchor_sentence(found).replace(display.NARROW_SPACE, " ")
    assert text == "In the slowest of 2 rounds the anchor block took 5.0 % longer than in the fastest."


def test_intervals_go_from_the_best_known_to_the_worst_and_the_worst_are_named(store):
    for number in range(12):
        visit(store, f"a{number}", "chain", BLOCKS[0], 1000)
        visit(store, f"b{number}", "chain", BLOCKS[1], 1000 + 200 * (number % 4))
    found = of(store)
    assert len(found.intervals) == 2 and found.intervals[0] == 0.0 < found.intervals[1]
    assert found.worst[0].key == BLOCKS[1].key and found.worst[0].relative_interval == found.intervals[1]
    assert "1 of" not in sentence(found) and "of 2 blocks are known to" in sentence(found)


def test_interpolated_entries_are_counted_apart_and_have_no_interval_of_visits(store):
    for number in range(4):
        visit(store, f"{number}", "chain", BLOCKS[0], 1000)
    store.set_interpolations([Figure(BLOCKS[2].key, "chain", 5000.0, 0.02, {})])
    found = of(store)
    assert found.entries == {"measured": 1, "interpolated": 1}
    assert len(found.intervals) == 1
    assert ("Blocks interpolated", "1") in figures(found)


def test_rules_are_counted_by_mode_the_commonest_first(store):
    visit(store, "0", "chain", BLOCKS[0], 1000)
    store.set_outcomes([
        Outcome(BLOCKS[0].key, "chain", "time cap", 0.04, 20), Outcome(BLOCKS[1].key, "chain", "target", 0.01, 20),
        Outcome(BLOCKS[2].key, "chain", "target", 0.01, 20), Outcome(BLOCKS[1].key, "alone", "accepted", 0.02, 20),
    ])  # fmt: skip
    modes, rules = rule_rows(of(store))
    assert modes == ["blocks in chains", "blocks alone"]
    assert [(rule.replace(display.NARROW_SPACE, " "), counts) for rule, counts in rules] == [
        ("known to 1 %", [2, 0]), ("time cap", [1, 0]), ("known to 2 %", [0, 1]),
    ]  # fmt: skip
