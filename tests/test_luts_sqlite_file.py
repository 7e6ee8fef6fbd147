from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest

from luts.store import MeasurementStore, StoreError, Subject

NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    """A finished file with one visit."""
    return written(tmp_path / "cpu.lut", finish=True)


def written(path: Path, finish: bool) -> Path:
    with MeasurementStore(path) as store:
        store.add_subjects([Subject("a", "block", "", {})])
        store.add_visit("v", "alone", 0, ["a"], np.array([[11, 12]]))
        if finish:
            store.finish()
        else:
            for suffix in ("", "-wal", "-shm"):
                shutil.copyfile(f"{path}{suffix}", f"{path}{suffix}.kept")
    if not finish:  # closing brings the log into the file; put everything back as a killed process leaves it
        for suffix in ("", "-wal", "-shm"):
            os.replace(f"{path}{suffix}.kept", f"{path}{suffix}")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def plans(path: Path) -> set[str]:
    with MeasurementStore(path, read_only=True) as store:
        assert [samples.tolist() for _, _, samples in store.samples("block")] == [[11, 12]]
        return store.finished_plans()


@contextlib.contextmanager
def nothing_writable(folder: Path):
    """The folder and its files cannot be written, for root neither."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(NOBODY)
        assert not os.access(folder, os.W_OK, effective_ids=True)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def public_folder():
    """A folder that other users can reach; tmp_path is its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="store-test-"))
    yield folder
    shutil.rmtree(folder)


# --- reading -----------------------------------------------------------------------------------------------------------


def test_reading_leaves_file_and_folder_as_they_are(path):
    before, times = content(path.parent), path.stat().st_mtime_ns
    assert plans(path) == {"v"}
    assert content(path.parent) == before
    assert path.stat().st_mtime_ns == times


def test_reading_a_closed_but_unfinished_file_leaves_it_as_it_is(tmp_path):
    path = tmp_path / "cpu.lut"
    with MeasurementStore(path) as store:
        store.add_subjects([Subject("a", "block", "", {})])
        store.add_visit("v", "alone", 0, ["a"], np.array([[11, 12]]))
    before = content(tmp_path)
    assert list(before) == ["cpu.lut"]
    assert plans(path) == {"v"}
    assert content(tmp_path) == before


def test_reading_what_a_killed_writer_left_leaves_file_and_log_as_they_are(tmp_path):
    path = written(tmp_path / "cpu.lut", finish=False)
    before = content(tmp_path)
    assert plans(path) == {"v"}
    after = content(tmp_path)
    assert {name: after[name] for name in ("cpu.lut", "cpu.lut-wal")} == {name: before[name] for name in ("cpu.lut", "cpu.lut-wal")}


def test_a_log_copied_without_its_index_is_read_too_and_nothing_is_written_beside_it(tmp_path):
    path = written(tmp_path / "cpu.lut", finish=False)
    path.with_name("cpu.lut-shm").unlink()
    before = content(tmp_path)
    assert plans(path) == {"v"}
    assert content(tmp_path) == before


@pytest.mark.parametrize("state", ["finished", "closed", "killed", "killed and copied"])
def test_a_file_that_cannot_be_written_in_a_folder_that_cannot_be_written_can_be_read(public_folder, state):
    path = written(public_folder / "cpu.lut", finish=state == "finished")
    if state == "closed":
        sqlite3.connect(path).execute("SELECT count(*) FROM visits").connection.close()
    if state == "killed and copied":
        path.with_name("cpu.lut-shm").unlink()
    with nothing_writable(public_folder):
        assert plans(path) == {"v"}


def test_a_reader_sees_a_writer_at_work(tmp_path):
    path = tmp_path / "cpu.lut"
    with MeasurementStore(path) as writer:
        writer.add_subjects([Subject("a", "block", "", {})])
        writer.add_visit("v", "alone", 0, ["a"], np.array([[11, 12]]))
        assert plans(path) == {"v"}
        with MeasurementStore(path, read_only=True) as reader:
            writer.add_visit("w", "alone", 0, ["a"], np.array([[11, 12]]))
            assert reader.finished_plans() == {"v", "w"}


def test_a_store_opened_for_reading_refuses_to_write(path):
    with MeasurementStore(path, read_only=True) as store:
        for write in (
            lambda: store.add_subject("b", "block", {}),
            lambda: store.add_visit("w", "alone", 0, ["a"], np.array([[1]])),
            lambda: store.set_provenance({"x": 1}),
        ):
            with pytest.raises(StoreError, match=r"cpu\.lut is opened for reading only"):
                write()
        store.finish()


def test_writing_where_nothing_can_be_written_is_one_sentence(public_folder):
    path = written(public_folder / "cpu.lut", finish=True)
    with nothing_writable(public_folder), MeasurementStore(path) as store, pytest.raises(PermissionError, match=r"cpu\.lut cannot be written"):
        store.add_visit("w", "alone", 0, ["a"], np.array([[1]]))


# --- what is refused ---------------------------------------------------------------------------------------------------


def sqlite_of_another_kind(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()


def facts_of_another_shape(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE facts (fact TEXT)")
    connection.commit()
    connection.close()


def facts_of_another_tool(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE facts (name TEXT, value TEXT); INSERT INTO facts VALUES ('kind', '\"recipes\"')")
    connection.close()


FOREIGN = {
    "text": (lambda path: path.write_text("once upon a time, and so on"), "is not a file of measurements"),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x07\x12\x04abcd" * 400), "is not a file of measurements"),
    "another database": (sqlite_of_another_kind, "is a database of another kind"),
    "another table of facts": (facts_of_another_shape, "is damaged .no such column"),
    "another tool": (facts_of_another_tool, "is a database of another kind"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "damaged": (lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\xee" * 5000), "is damaged .file is not a database"),
}


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_refused_naming_it_and_left_as_it_is(tmp_path, kind, read_only):
    make, words = FOREIGN[kind]
    path = tmp_path / "thing.lut"
    make(path)
    before = content(tmp_path) if path.is_file() else {}
    with pytest.raises(StoreError, match=rf"thing\.lut .*{words}" if not words.startswith("is") else rf"thing\.lut {words}"):
        MeasurementStore(path, read_only=read_only)
    assert (content(tmp_path) if path.is_file() else {}) == before


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_schema_is_refused_naming_both_versions(path, read_only):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET value = '7' WHERE name = 'schema_version'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="has schema version 7, expected 2"):
        MeasurementStore(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_missing_file_is_named_for_reading_and_a_missing_folder_for_writing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.lut"):
        MeasurementStore(tmp_path / "nothing.lut", read_only=True)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to write a\.lut in"):
        MeasurementStore(tmp_path / "nowhere" / "a.lut")
    assert content(tmp_path) == {}


def test_an_empty_file_can_be_begun_but_not_read(tmp_path):
    path = tmp_path / "a.lut"
    path.touch()
    with pytest.raises(StoreError, match=r"a\.lut is empty"):
        MeasurementStore(path, read_only=True)
    written(path, finish=True)
    assert plans(path) == {"v"}


@pytest.mark.parametrize("name", ["a b.lut", "50%.lut", "what?mode=memory.lut", "#1.lut", "täbelle.lut"])
def test_names_with_odd_characters_are_just_names(tmp_path, name):
    path = written(tmp_path / name, finish=True)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert plans(path) == {"v"}


def test_a_url_of_sqlite_is_a_path_and_other_urls_are_refused(path):
    with MeasurementStore(f"sqlite:///{path}", read_only=True) as store:
        assert store.finished_plans() == {"v"}
    for url in ("mysql://lab/measurements", "sqlite:///", "http://example.org/cpu.lut"):
        with pytest.raises(StoreError, match="is not a place for measurements"):
            MeasurementStore(url)


def test_a_file_whose_writer_was_killed_before_it_was_self_contained_is_read_without_a_trace(tmp_path):
    whole, killed = tmp_path / "whole.lut", tmp_path / "cpu.lut"
    with MeasurementStore(whole) as store:
        store.add_subject("a", "block", {})
    shutil.copy(whole, killed)
    with contextlib.closing(sqlite3.connect(killed, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
        raw.execute("PRAGMA cache_size = 1")
        raw.execute("BEGIN")
        raw.executemany("INSERT INTO facts VALUES (?, ?)", [(f"fact {i}", "x" * 3000) for i in range(50)])
        for suffix in ("", "-journal"):
            shutil.copy(f"{killed}{suffix}", tmp_path / f"left.lut{suffix}")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("left.lut*")}
    assert len(before) == 2
    with MeasurementStore(tmp_path / "left.lut", read_only=True) as store:
        assert [subject.key for subject in store.subjects()] == ["a"]
    assert {file.name: file.read_bytes() for file in tmp_path.glob("left.lut*")} == before
    with MeasurementStore(tmp_path / "left.lut") as store:
        store.add_subject("b", "block", {})
        assert [subject.key for subject in store.subjects()] == ["a", "b"]
