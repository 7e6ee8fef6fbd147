from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sqlalchemy.exc import IntegrityError
from store_contract import CONDITION, SUBJECTS, StoreContract, alone

from luts.store import MeasurementStore, StoreBusyError, StoreFullError, Subject


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cpu.lut"


@pytest.fixture
def store(path):
    with MeasurementStore(path) as store:
        store.add_subjects(SUBJECTS)
        yield store


class TestStoreInAFile(StoreContract):
    @pytest.fixture
    def place(self, path):
        return path


def pragma(store, text):
    return store._database._pragma(text)


def test_the_same_condition_again_is_fine_and_writes_nothing(path):
    with MeasurementStore(path) as store:
        store.set_condition(CONDITION)
        store.finish()
    content = path.read_bytes()
    with MeasurementStore(path) as store:
        store.set_condition(CONDITION)
    assert path.read_bytes() == content


@given(samples=hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(1, 2**63 - 1)))
def test_any_positive_samples_come_back_exactly(tmp_path_factory, samples):
    with MeasurementStore(tmp_path_factory.mktemp("store") / "a.lut") as store:
        keys = [str(position) for position in range(len(samples))]
        store.add_subjects([Subject(key, "block", "", {}) for key in keys])
        store.add_visit("v", "chain", 0, keys, samples)
        assert [own.tolist() for _, _, own in store.samples("block")] == samples.tolist()


def test_foreign_keys_hold(store, path):
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), store._database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO sequence_subjects VALUES (99, 0, 99)")


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
    pragma(store, "max_page_count = 60")
    kept = 0
    with pytest.raises(StoreFullError, match=r"cpu\.lut cannot grow, the disk is full; everything before is kept"):
        for number in range(1000):
            store.add_visit(f"v{number}", "alone", 0, ["a"], rng.integers(1, 2**60, (1, 100)))
            kept = number + 1
    assert 5 < kept < 1000
    assert store.finished_plans() == {f"v{number}" for number in range(kept)}
    pragma(store, "max_page_count = 100000")
    store.add_visit(f"v{kept}", "alone", 0, ["a"], np.array([[1]]))
    store.close()
    with MeasurementStore(path, read_only=True) as reader:
        assert len(list(reader.samples("block"))) == kept + 1


def test_a_full_disk_in_the_middle_of_a_new_chain_leaves_no_half_of_it(store):
    pragma(store, "max_page_count = 60")
    rng = np.random.default_rng(0)
    with pytest.raises(StoreFullError):
        for number in range(1000):
            store.add_visit(f"v{number}", "chain", 0, ["a"] * (number + 1), rng.integers(1, 2**60, (number + 1, 10)))
    pragma(store, "max_page_count = 100000")
    done = len(store.finished_plans())
    store.add_visit("again", "chain", 0, ["a"] * (done + 1), np.ones((done + 1, 1), np.int64))
    with store._database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    assert len(list(store.samples("block"))) == sum(range(1, done + 2))


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


def test_finishing_while_another_process_has_the_file_open_leaves_it_to_that_one(store, path):
    store.add_visit("v", "alone", 0, ["a"], np.array([[1]]))
    other = sqlite3.connect(path)
    other.execute("SELECT count(*) FROM visits").fetchone()
    store.finish()
    assert path.with_name("cpu.lut-wal").exists()
    store.add_visit("w", "alone", 0, ["a"], np.array([[1]]))
    other.close()
    store.finish()
    assert [file.name for file in path.parent.iterdir()] == ["cpu.lut"]


# --- files that are made, and files that are not ------------------------------------------------------------------------


def test_a_command_that_fails_before_anything_is_written_leaves_no_file(path):
    with pytest.raises(ConnectionError), MeasurementStore(path) as store:
        assert (store.condition(), store.subjects(), store.finished_plans()) == (None, [], set())
        raise ConnectionError("the device is not there")
    assert list(path.parent.iterdir()) == []


def test_a_file_that_another_process_made_meanwhile_is_seen_and_added_to(path):
    with MeasurementStore(path) as first, MeasurementStore(path) as second:
        assert second.condition() is None
        first.set_condition(CONDITION)
        first.add_subjects(SUBJECTS)
        alone(first, "v")
        assert second.condition() == CONDITION
        alone(second, "w")
        assert first.finished_plans() == {"v", "w"}


def test_a_store_that_was_closed_says_so(store):
    store.close()
    with pytest.raises(ValueError, match=r"cpu\.lut is closed; open it again"):
        store.finished_plans()
