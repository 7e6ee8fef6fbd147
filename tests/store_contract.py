"""What a measurement store does wherever it is: subclassed for files and for PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luts.condition import Condition
from luts.store import Figure, MeasurementStore, Outcome, StoredWarning, StoreError, Subject

CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
BEFORE = {"unix_time_ns": 1_700_000_000_123_456_789, "load_1m": 0.25, "frequency_khz": 2_400_000, "temperature_c": 51.5, "throttled": False,
          "memory_available_kb": 3_000_000_000}  # fmt: skip
AFTER = {"unix_time_ns": 1_700_000_000_223_456_789, "throttled": None}
SUBJECTS = [*(Subject(key, "block", "", {"key": key}) for key in "abc"), Subject("net", "network", "calibration", {"name": "n"})]


def found(store, kind="block", mode=None, **options):
    return [(subject.key, visit.plan_id, samples.tolist()) for subject, visit, samples in store.samples(kind, mode, **options)]


def alone(store, plan_id, key="a", samples=((1,),), **options):
    store.add_visit(plan_id, "alone", 0, [key], np.array(samples), **options)


PLANS = [f"v{number}" for number in range(40)]
COLLECTOR = """
import sys, time
import numpy as np
from luts.store import MeasurementStore
place, name, plans = sys.argv[1], sys.argv[2], sys.argv[3].split()
with MeasurementStore(place) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while left := [plan for plan in plans if plan not in store.finished_plans()]:
        own = next(filter(None, (store.claim(left[i : i + 4], name, time.time(), 2.0) for i in range(0, len(left), 4))), ())
        for plan in sorted(own):
            store.add_visit(plan, "alone", 0, ["a"], np.array([[1]]), worker=name)
            print(plan, flush=True)
        time.sleep(0.01)
"""


def collecting(place, name):
    """Return a process that waits for a line, then makes the visits that nobody else makes, printing each."""
    command = [sys.executable, "-c", COLLECTOR, str(place), name, " ".join(PLANS)]
    collector = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert collector.stdout.readline() == "ready\n"
    return collector


class StoreContract:
    """A subclass gives the fixture `place`: a path or URL where nothing is yet."""

    @pytest.fixture
    def store(self, place):
        with MeasurementStore(place) as store:
            store.add_subjects(SUBJECTS)
            yield store

    def test_a_new_file_has_no_condition_no_plan_and_no_provenance(self, store):
        assert (store.condition(), store.collection(), store.provenance()) == (None, None, {})

    def test_a_change_of_provenance_keeps_what_another_writer_noted(self, place):
        with MeasurementStore(place) as store, MeasurementStore(place) as other:
            store.set_provenance({"sessions": [1]})
            other.change_provenance(lambda known: {**known, "sessions": [*known["sessions"], 2]})
            store.change_provenance(lambda known: {**known, "sessions": [*known["sessions"], 3]})
            assert other.provenance() == store.provenance() == {"sessions": [1, 2, 3]}

    def test_condition_provenance_and_plan_survive_closing(self, place):
        with MeasurementStore(place) as store:
            store.set_condition(CONDITION)
            store.set_provenance({"sessions": [1]})
            store.set_collection({"space": "s", "seed": 3})
        with MeasurementStore(place, read_only=True) as store:
            assert store.condition() == CONDITION
            assert store.provenance() == {"sessions": [1]}
            assert store.collection() == {"space": "s", "seed": 3}

    def test_another_condition_is_refused_naming_each_field_that_differs_and_no_other(self, store):
        store.set_condition(CONDITION)
        with pytest.raises(StoreError) as error:
            store.set_condition(replace(CONDITION, threads=4, cores=(0, 1, 2, 3)))
        assert "threads 1 there, 4 now" in str(error.value)
        assert "cores (1,) there, (0, 1, 2, 3) now" in str(error.value)
        assert "runtime" not in str(error.value)
        assert store.condition() == CONDITION

    def test_samples_come_back_visit_by_visit_with_all_that_was_noted(self, store):
        store.add_visit("v1", "chain", 2, ["b", "a"], np.array([[30, 31], [10, 11]]), (BEFORE, AFTER), "worker-7")
        (first_subject, visit, first), (second_subject, _, second) = store.samples("block", "chain")
        assert (first_subject.key, first.tolist(), second_subject.key, second.tolist()) == ("b", [30, 31], "a", [10, 11])
        assert first.dtype == np.int64
        assert (visit.plan_id, visit.mode, visit.round, visit.worker, visit.discarded) == ("v1", "chain", 2, "worker-7", None)
        assert visit.state_before == BEFORE
        assert visit.state_before["throttled"] is False
        assert visit.state_after == {**dict.fromkeys(BEFORE), **AFTER}

    def test_kinds_and_modes_are_told_apart(self, store):
        store.add_visit("v1", "alone", 0, ["a"], np.array([[1]]))
        store.add_visit("v2", "chain", 0, ["a", "b"], np.array([[2], [3]]))
        store.add_visit("v3", "network", 0, ["net"], np.array([[4]]))
        assert found(store, mode="alone") == [("a", "v1", [1])]
        assert found(store, mode="chain") == [("a", "v2", [2]), ("b", "v2", [3])]
        assert found(store) == [("a", "v1", [1]), ("a", "v2", [2]), ("b", "v2", [3])]
        assert found(store, "network") == [("net", "v3", [4])]

    def test_a_block_may_stand_in_a_visit_more_than_once(self, store):
        store.add_visit("v", "chain", 0, ["a", "b", "a"], np.array([[1], [2], [3]]))
        assert found(store) == [("a", "v", [1]), ("b", "v", [2]), ("a", "v", [3])]

    def test_a_visit_of_one_plan_is_stored_once(self, store):
        store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
        with pytest.raises(StoreError, match=r"visit 'v' is in .* already"):
            store.add_visit("v", "alone", 0, ["a"], np.array([[2]]))
        assert found(store) == [("a", "v", [1])]
        store.add_visit("w", "alone", 0, ["b"], np.array([[2]]))
        assert store.finished_plans() == {"v", "w"}

    def test_discarded_visits_are_kept_but_do_not_count(self, store):
        for sample in (7, 8):
            store.add_visit("v", "alone", 0, ["a"], np.array([[sample]]), discarded="throttled")
        assert store.finished_plans() == set()
        assert found(store) == []
        store.add_visit("v", "alone", 0, ["a"], np.array([[5]]))
        assert store.finished_plans() == {"v"}
        assert found(store) == [("a", "v", [5])]
        assert [samples for _, _, samples in found(store, include_discarded=True)] == [[7], [8], [5]]
        assert [visit.discarded for _, visit, _ in store.samples("block", include_discarded=True)] == ["throttled", "throttled", None]

    @pytest.mark.parametrize(
        ("samples", "words"),
        [
            (np.array([[1, 0]]), "visit 'v' has a sample of 0 ns"),
            (np.array([[-5]]), "visit 'v' has a sample of -5 ns"),
            (np.array([[1.5]]), "float64 of shape"),
            (np.array([1, 2]), r"shape \(2,\); expected integers, \(1, n_cycles\)"),
            (np.array([[1], [2]]), r"shape \(2, 1\); expected integers, \(1, n_cycles\)"),
            (np.zeros((1, 0), np.int64), r"shape \(1, 0\)"),
        ],
    )
    def test_samples_that_are_no_latencies_are_refused(self, store, samples, words):
        with pytest.raises(StoreError, match=words):
            store.add_visit("v", "alone", 0, ["a"], samples)
        assert store.finished_plans() == set()

    def test_an_undeclared_subject_is_refused_and_leaves_nothing(self, store, place):
        with pytest.raises(StoreError, match=r"subject 'x' is not declared in .*"):
            store.add_visit("v", "chain", 0, ["a", "x"], np.array([[1], [2]]))
        assert store.finished_plans() == set()
        store.add_visit("v", "chain", 0, ["a", "b"], np.array([[1], [2]]))
        assert found(store) == [("a", "v", [1]), ("b", "v", [2])]

    def test_a_state_with_an_unknown_field_is_refused(self, store):
        with pytest.raises(StoreError, match="no field 'mood'; its fields are unix_time_ns, "):
            store.add_visit("v", "alone", 0, ["a"], np.array([[1]]), ({"mood": 1}, {}))

    def test_declaring_a_subject_again_is_fine_and_something_else_under_its_key_is_not(self, store):
        store.add_subject("a", "block", {"key": "a"})
        assert [subject.key for subject in store.subjects()] == ["a", "b", "c", "net"]
        for subject in (
            Subject("a", "block", "", {"key": "other"}),
            Subject("a", "network", "", {"key": "a"}),
            Subject("net", "network", "held_out", {"name": "n"}),
        ):
            with pytest.raises(StoreError, match=f"subject '{subject.key}' of .* is something else already"):
                store.add_subjects([subject])
        with pytest.raises(ValueError, match="kind of subject 'd' is 'planet'"):
            store.add_subject("d", "planet", {})

    def test_each_visit_is_committed_when_add_visit_returns(self, store, place):
        for number in range(3):
            store.add_visit(f"v{number}", "alone", 0, ["a"], np.array([[1]]))
            with MeasurementStore(place, read_only=True) as reader:
                assert len(reader.finished_plans()) == number + 1

    def test_a_second_process_measuring_the_same_is_told_so(self, store, place):
        with MeasurementStore(place) as other:
            other.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
            with pytest.raises(StoreError, match="collectors that share a store claim visits before making them"):
                store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
            other.add_visit("w", "chain", 0, ["a", "b"], np.array([[1], [2]]))
            store.add_visit("x", "chain", 0, ["a", "b"], np.array([[3], [4]]))
        assert store.finished_plans() == {"v", "w", "x"}

    def test_each_sample_stands_for_as_many_runs_as_were_made_in_it(self, store):
        alone(store, "v")
        alone(store, "w", repeats=7)
        assert [visit.repeats for _, visit, _ in store.samples("block")] == [1, 7]
        with pytest.raises(StoreError, match="0 repeats"):
            alone(store, "x", repeats=0)

    def test_visits_are_in_order_of_arrival_though_the_clock_was_set_back(self, store):
        for number, unix_time_ns in enumerate([3_000, 1_000, 2_000]):
            alone(store, f"v{number}", states=({"unix_time_ns": unix_time_ns}, {}))
        assert [visit.plan_id for _, visit, _ in store.samples("block")] == ["v0", "v1", "v2"]

    # --- claims -----------------------------------------------------------------------------------------------------

    def test_a_visit_is_claimed_by_one_collector_at_a_time(self, store):
        assert store.claim(["v", "w"], "first", now_s=100, lease_s=60) == {"v", "w"}
        assert store.claim(["w", "x"], "second", now_s=101, lease_s=60) == {"x"}
        assert store.claim(["v", "w", "x"], "first", now_s=150, lease_s=60) == {"v", "w"}
        store.release("first")
        assert store.claim(["v", "w"], "second", now_s=151, lease_s=60) == {"v", "w"}

    def test_a_claim_ends_with_its_lease_unless_it_was_renewed(self, store):
        store.claim(["v", "w"], "killed", now_s=100, lease_s=60)
        store.claim(["w"], "killed", now_s=150, lease_s=60)
        assert store.claim(["v", "w"], "other", now_s=161, lease_s=60) == {"v"}

    def test_a_visit_that_was_made_cannot_be_claimed_and_one_that_was_discarded_can(self, store):
        alone(store, "v")
        alone(store, "w", discarded="throttled")
        assert store.claim(["v", "w"], "first", now_s=0, lease_s=60) == {"w"}

    def test_a_claim_made_under_another_time_of_day_does_not_hold_for_ever(self, store):
        store.claim(["v"], "in the future", now_s=1e9, lease_s=60)
        assert store.claim(["v"], "now", now_s=1e6, lease_s=60) == {"v"}
        assert store.claim(["v"], "a little earlier", now_s=1e6 - 30, lease_s=60) == set()

    def test_collectors_at_one_store_make_each_visit_once(self, place, store):
        collectors = [collecting(place, f"collector-{number}") for number in range(2)]
        for collector in collectors:
            collector.stdin.write("go\n")
            collector.stdin.flush()
        made = [collector.communicate(timeout=120)[0].split() for collector in collectors]
        assert [collector.returncode for collector in collectors] == [0, 0]
        assert sorted(made[0] + made[1]) == sorted(PLANS)
        assert all(made)
        assert len(list(store.samples("block", include_discarded=True))) == len(PLANS)

    def test_what_a_killed_collector_claimed_is_made_by_another_when_its_lease_has_ended(self, place, store):
        killed = collecting(place, "killed")
        killed.stdin.write("go\n")
        killed.stdin.flush()
        for _ in range(4):
            killed.stdout.readline()
        killed.kill()
        killed.communicate()
        assert 0 < len(store.finished_plans()) < len(PLANS)
        other = collecting(place, "other")
        other.communicate("go\n", timeout=120)
        assert store.finished_plans() == set(PLANS)
        assert len(list(store.samples("block"))) == len(PLANS)

    # --- findings ---------------------------------------------------------------------------------------------------

    def test_outcomes_replace_those_of_the_same_subject_and_mode_only(self, store):
        store.set_outcomes(
            [Outcome("b", "chain", "precise", 0.009, 5), Outcome("a", "chain", "rounds", None, 3), Outcome("a", "alone", "rounds", 0.02, 3)]
        )
        store.set_outcomes([Outcome("a", "chain", "precise", 0.01, 6)])
        assert store.outcomes() == [
            Outcome("a", "alone", "rounds", 0.02, 3), Outcome("a", "chain", "precise", 0.01, 6), Outcome("b", "chain", "precise", 0.009, 5),
        ]  # fmt: skip
        store.set_outcomes([])
        assert len(store.outcomes()) == 3
        with pytest.raises(StoreError, match="subject 'x' is not declared in"):
            store.set_outcomes([Outcome("x", "chain", "precise", 0.01, 6)])

    def test_warnings_come_back_in_order_and_replace_each_other(self, store):
        warnings = [StoredWarning("slow", {"share": 0.25}, "25 % slow", 1e9), StoredWarning("drift", {"rounds": [1, 2]}, "it drifts", 1e9 + 0.5)]
        store.set_warnings(warnings)
        assert store.warnings() == warnings
        store.set_warnings([])
        assert store.warnings() == []

    def test_figures_come_back_with_what_they_rest_on_and_replace_each_other(self, store):
        figures = [Figure("a", "chain", 1234.5, 0.02, {"keys": ["b", "c"]}), Figure("c", "chain", 1.5, None, {}, "imported", 3, 30)]
        store.set_figures([Figure("b", "chain", 1.0, None, {})])
        store.set_figures(figures)
        assert store.figures() == figures
        with pytest.raises(StoreError, match="subject 'x' is not declared in"):
            store.set_figures([Figure("x", "chain", 1.0, None, {})])
        assert store.figures() == figures
        with pytest.raises(ValueError, match="interpolated latency of 'a' is 0 ns"):
            Figure("a", "chain", 0, None, {})

    def test_interpolated_figures_leave_those_of_other_origins_alone(self, store):
        store.set_figures([Figure("a", "chain", 1.0, None, {}), Figure("c", "chain", 1.5, None, {}, "imported")])
        store.set_interpolations([Figure("b", "chain", 2.0, None, {}), Figure("c", "chain", 9.0, None, {})])
        assert [(figure.key, figure.latency_ns) for figure in store.figures()] == [("b", 2.0), ("c", 1.5)]

    # --- errors in flight -------------------------------------------------------------------------------------------

    def test_what_went_wrong_first_is_what_is_told(self, place, monkeypatch):
        def full(self):
            raise OSError("the disk is full")

        monkeypatch.setattr(MeasurementStore, "finish", full)
        with pytest.raises(RuntimeError, match="the device is gone"), MeasurementStore(place):
            raise RuntimeError("the device is gone")
        with pytest.raises(OSError, match="the disk is full"), MeasurementStore(place):
            pass

    def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(self, store):
        with pytest.raises(StoreError):
            store.set_outcomes([Outcome("a", "chain", "precise", 0.01, 6), Outcome("x", "chain", "precise", 0.01, 6)])
        assert store.outcomes() == []
        alone(store, "v")
        assert store.finished_plans() == {"v"}
