from __future__ import annotations

import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from luts.condition import Condition
from luts.store import MeasurementStore, StoreBusyError, StoreError, StoreFullError, Subject

CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
BEFORE = {"unix_time_ns": 1_700_000_000_123_456_789, "load_1m": 0.25, "frequency_khz": 2_400_000, "temperature_c": 51.5, "throttled": False,
          "memory_available_kb": 12}  # fmt: skip
AFTER = {"unix_time_ns": 1_700_000_000_223_456_789, "throttled": None}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cpu.lut"


@pytest.fixture
def store(path):
    with MeasurementStore(path) as store:
        store.add_subjects([Subject(key, "block", "", {"key": key}) for key in "abc"] + [Subject("net", "network", "calibration", {"name": "n"})])
        yield store


def found(store, kind="block", mode=None, **options):
    return [(subject.key, visit.plan_id, samples.tolist()) for subject, visit, samples in store.samples(kind, mode, **options)]


# --- facts -------------------------------------------------------------------------------------------------------------


def test_a_new_file_has_no_condition_no_plan_and_no_provenance(store):
    assert (store.condition(), store.collection(), store.provenance()) == (None, None, {})


def test_condition_provenance_and_plan_survive_closing(path):
    with MeasurementStore(path) as store:
        store.set_condition(CONDITION)
        store.set_provenance({"sessions": [1]})
        store.set_collection({"space": "s", "seed": 3})
    with MeasurementStore(path, read_only=True) as store:
        assert store.condition() == CONDITION
        assert store.provenance() == {"sessions": [1]}
        assert store.collection() == {"space": "s", "seed": 3}


def test_the_same_condition_again_is_fine_and_writes_nothing(path):
    with MeasurementStore(path) as store:
        store.set_condition(CONDITION)
        store.finish()
    content = path.read_bytes()
    with MeasurementStore(path) as store:
        store.set_condition(CONDITION)
    assert path.read_bytes() == content


def test_another_condition_is_refused_naming_each_field_that_differs_and_no_other(store):
    store.set_condition(CONDITION)
    with pytest.raises(StoreError) as error:
        store.set_condition(replace(CONDITION, threads=4, cores=(0, 1, 2, 3)))
    assert "threads 1 there, 4 now" in str(error.value)
    assert "cores (1,) there, (0, 1, 2, 3) now" in str(error.value)
    assert "runtime" not in str(error.value)
    assert store.condition() == CONDITION


# --- visits ------------------------------------------------------------------------------------------------------------


def test_samples_come_back_visit_by_visit_with_all_that_was_noted(store):
    store.add_visit("v1", "chain", 2, ["b", "a"], np.array([[30, 31], [10, 11]]), (BEFORE, AFTER), "worker-7")
    (first_subject, visit, first), (second_subject, _, second) = store.samples("block", "chain")
    assert (first_subject.key, first.tolist(), second_subject.key, second.tolist()) == ("b", [30, 31], "a", [10, 11])
    assert first.dtype == np.int64
    assert (visit.plan_id, visit.mode, visit.round, visit.worker, visit.discarded) == ("v1", "chain", 2, "worker-7", None)
    assert visit.state_before == BEFORE
    assert visit.state_before["throttled"] is False
    assert visit.state_after == {**dict.fromkeys(BEFORE), **AFTER}


def test_kinds_and_modes_are_told_apart(store):
    store.add_visit("v1", "alone", 0, ["a"], np.array([[1]]))
    store.add_visit("v2", "chain", 0, ["a", "b"], np.array([[2], [3]]))
    store.add_visit("v3", "network", 0, ["net"], np.array([[4]]))
    assert found(store, mode="alone") == [("a", "v1", [1])]
    assert found(store, mode="chain") == [("a", "v2", [2]), ("b", "v2", [3])]
    assert found(store) == [("a", "v1", [1]), ("a", "v2", [2]), ("b", "v2", [3])]
    assert found(store, "network") == [("net", "v3", [4])]


def test_a_block_may_stand_in_a_visit_more_than_once(store):
    store.add_visit("v", "chain", 0, ["a", "b", "a"], np.array([[1], [2], [3]]))
    assert found(store) == [("a", "v", [1]), ("b", "v", [2]), ("a", "v", [3])]


def test_a_visit_of_one_plan_is_stored_once(store):
    store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
    with pytest.raises(StoreError, match=r"visit 'v' is in .*cpu\.lut already"):
        store.add_visit("v", "alone", 0, ["a"], np.array([[2]]))
    assert found(store) == [("a", "v", [1])]
    store.add_visit("w", "alone", 0, ["b"], np.array([[2]]))
    assert store.finished_plans() == {"v", "w"}


def test_discarded_visits_are_kept_but_do_not_count(store):
    for sample in (7, 8):
        store.add_visit("v", "alone", 0, ["a"], np.array([[sample]]), discarded="throttled")
    assert store.finished_plans() == set()
    assert found(store) == []
    store.add_visit("v", "alone", 0, ["a"], np.array([[5]]))
    assert store.finished_plans() == {"v"}
    assert found(store) == [("a", "v", [5])]
    assert [samples for _, _, samples in found(store, include_discarded=True)] == [[7], [8], [5]]
    assert [visit.discarded for _, visit, _ in store.samples("block", include_discarded=True)] == ["throttled", "throttled", None]


@given(samples=hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(1, 2**63 - 1)))
def test_any_positive_samples_come_back_exactly(tmp_path_factory, samples):
    with MeasurementStore(tmp_path_factory.mktemp("store") / "a.lut") as store:
        keys = [str(position) for position in range(len(samples))]
        store.add_subjects([Subject(key, "block", "", {}) for key in keys])
        store.add_visit("v", "chain", 0, keys, samples)
        assert [own.tolist() for _, _, own in store.samples("block")] == samples.tolist()


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
def test_samples_that_are_no_latencies_are_refused(store, samples, words):
    with pytest.raises(StoreError, match=words):
        store.add_visit("v", "alone", 0, ["a"], samples)
    assert store.finished_plans() == set()


def test_an_undeclared_subject_is_refused_and_leaves_nothing(store, path):
    with pytest.raises(StoreError, match=r"subject 'x' is not declared in .*cpu\.lut"):
        store.add_visit("v", "chain", 0, ["a", "x"], np.array([[1], [2]]))
    assert store.finished_plans() == set()
    store.add_visit("v", "chain", 0, ["a", "b"], np.array([[1], [2]]))
    assert found(store) == [("a", "v", [1]), ("b", "v", [2])]


def test_a_state_with_an_unknown_field_is_refused(store):
    with pytest.raises(StoreError, match="no field 'mood'; its fields are unix_time_ns, "):
        store.add_visit("v", "alone", 0, ["a"], np.array([[1]]), ({"mood": 1}, {}))


def test_declaring_a_subject_again_is_fine_and_something_else_under_its_key_is_not(store):
    store.add_subject("a", "block", {"key": "a"})
    assert [subject.key for subject in store.subjects()] == ["a", "b", "c", "net"]
    for subject in (
        Subject("a", "block", "", {"key": "other"}),
        Subject("a", "network", "", {"key": "a"}),
        Subject("net", "network", "held_out", {"name": "n"}),
    ):
        with pytest.raises(StoreError, match=f"subject '{subject.key}' of .* is something else already"):
            store.add_subjects([subject])
    with pytest.raises(StoreError, match="kind of subject 'd' is 'planet'"):
        store.add_subject("d", "planet", {})


def test_foreign_keys_hold(store, path):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        store._file._raw.execute("INSERT INTO sequence_subjects VALUES (99, 0, 99)")


# --- writers, full disks, interruptions --------------------------------------------------------------------------------


def test_each_visit_is_committed_when_add_visit_returns(store, path):
    for number in range(3):
        store.add_visit(f"v{number}", "alone", 0, ["a"], np.array([[1]]))
        with MeasurementStore(path, read_only=True) as reader:
            assert len(reader.finished_plans()) == number + 1


def test_a_second_process_measuring_the_same_is_told_so(store, path):
    with MeasurementStore(path) as other:
        other.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
        with pytest.raises(StoreError, match="let only one process at a time measure into a file"):
            store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
        other.add_visit("w", "chain", 0, ["a", "b"], np.array([[1], [2]]))
        store.add_visit("x", "chain", 0, ["a", "b"], np.array([[3], [4]]))
    assert store.finished_plans() == {"v", "w", "x"}


def test_a_writer_that_does_not_end_is_reported_after_the_busy_timeout_and_writing_goes_on_when_it_has(store, path):
    store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        MeasurementStore(path, busy_timeout_s=0.05) as impatient,
        pytest.raises(StoreBusyError, match=r"cpu\.lut is in use by another process; wait until that has ended"),
    ):
        impatient.add_visit("w", "alone", 0, ["a"], np.array([[1]]))
    other.execute("COMMIT")
    other.close()
    store.add_visit("w", "alone", 0, ["a"], np.array([[1]]))
    assert store.finished_plans() == {"v", "w"}


def test_a_full_disk_is_one_sentence_and_everything_before_is_kept(store, path):
    rng = np.random.default_rng(0)
    store._file._raw.execute("PRAGMA max_page_count = 24")
    kept = 0
    with pytest.raises(StoreFullError, match=r"cpu\.lut cannot grow, the disk is full; everything before is kept"):
        for number in range(1000):
            store.add_visit(f"v{number}", "alone", 0, ["a"], rng.integers(1, 2**60, (1, 100)))
            kept = number + 1
    assert 5 < kept < 1000
    assert store.finished_plans() == {f"v{number}" for number in range(kept)}
    store._file._raw.execute("PRAGMA max_page_count = 100000")
    store.add_visit(f"v{kept}", "alone", 0, ["a"], np.array([[1]]))
    store.close()
    with MeasurementStore(path, read_only=True) as reader:
        assert len(list(reader.samples("block"))) == kept + 1


def test_a_full_disk_in_the_middle_of_a_new_chain_leaves_no_half_of_it(store):
    store._file._raw.execute("PRAGMA max_page_count = 24")
    rng = np.random.default_rng(0)
    with pytest.raises(StoreFullError):
        for number in range(1000):
            store.add_visit(f"v{number}", "chain", 0, ["a"] * (number + 1), rng.integers(1, 2**60, (number + 1, 10)))
    store._file._raw.execute("PRAGMA max_page_count = 100000")
    done = len(store.finished_plans())
    store.add_visit("again", "chain", 0, ["a"] * (done + 1), np.ones((done + 1, 1), np.int64))
    assert store._file._raw.execute("PRAGMA foreign_key_check").fetchall() == []
    assert len(list(store.samples("block"))) == sum(range(1, done + 2))


# --- finish ------------------------------------------------------------------------------------------------------------


def test_a_finished_file_is_one_file_and_can_be_added_to(store, path):
    store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
    assert path.with_name("cpu.lut-wal").exists()
    store.finish()
    assert [file.name for file in path.parent.iterdir()] == ["cpu.lut"]
    copy = path.with_name("copy.lut")
    copy.write_bytes(path.read_bytes())
    with MeasurementStore(copy, read_only=True) as reader:
        assert reader.finished_plans() == {"v"}
    store.add_visit("w", "alone", 0, ["a"], np.array([[1]]))
    assert path.with_name("cpu.lut-wal").exists()
    store.finish()
    store.finish()
    assert sorted(file.name for file in path.parent.iterdir()) == ["copy.lut", "cpu.lut"]


def test_finishing_while_another_process_has_the_file_open_is_one_sentence(store, path):
    store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
    other = sqlite3.connect(path)
    other.execute("SELECT count(*) FROM visits").fetchone()
    store._file._raw.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(StoreBusyError, match="in use by another process"):
        store.finish()
    other.close()
    store.finish()
    assert [file.name for file in path.parent.iterdir()] == ["cpu.lut"]
