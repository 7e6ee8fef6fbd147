"""Files of older schemas: the tables of version 1 are written out here as its release made them."""

from __future__ import annotations

import json
import sqlite3
import zlib

import numpy as np
import pytest

from luts import schema
from luts.store import MeasurementStore, Outcome, StoreError
from luts.table import LatencyTable
from supernets.blocks import BlockSpec

STATES = "".join(
    f"{when}_unix_time_ns BIGINT, {when}_load_1m FLOAT, {when}_frequency_khz INTEGER, {when}_temperature_c FLOAT, {when}_throttled INTEGER, "
    f"{when}_memory_available_kb INTEGER, "
    for when in ("before", "after")
)
VERSION_1 = f"""
CREATE TABLE facts (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE subjects (id INTEGER NOT NULL, "key" TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, spec TEXT NOT NULL, PRIMARY KEY (id),
    CONSTRAINT kind_is_known CHECK (kind IN ('block', 'network')), UNIQUE ("key"));
CREATE TABLE sequences (id INTEGER NOT NULL, subjects TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (subjects));
CREATE TABLE sequence_subjects (sequence_id INTEGER NOT NULL, position INTEGER NOT NULL, subject_id INTEGER NOT NULL,
    PRIMARY KEY (sequence_id, position), FOREIGN KEY(sequence_id) REFERENCES sequences (id), FOREIGN KEY(subject_id) REFERENCES subjects (id));
CREATE TABLE visits (id INTEGER NOT NULL, plan_id TEXT NOT NULL, attempt INTEGER NOT NULL, discarded TEXT, mode TEXT NOT NULL,
    round INTEGER NOT NULL, sequence_id INTEGER NOT NULL, cycles INTEGER NOT NULL, worker TEXT NOT NULL, {STATES}samples BLOB NOT NULL,
    PRIMARY KEY (id), CONSTRAINT nothing_is_measured_twice UNIQUE (plan_id, attempt),
    CONSTRAINT discarded_visits_do_not_count CHECK ((attempt = 0) = (discarded IS NULL)), FOREIGN KEY(sequence_id) REFERENCES sequences (id));
CREATE TABLE accuracy_protocols (id INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (fields));
CREATE TABLE accuracies (id INTEGER NOT NULL, protocol_id INTEGER NOT NULL, architecture TEXT NOT NULL, top1 FLOAT NOT NULL, hits BLOB NOT NULL,
    PRIMARY KEY (id), CONSTRAINT nothing_is_evaluated_twice UNIQUE (protocol_id, architecture),
    FOREIGN KEY(protocol_id) REFERENCES accuracy_protocols (id));
"""
BLOCK = BlockSpec("conv_bn", 8, 8, 8, name="a")
CONDITION = {"device": "local", "runtime": "onnxruntime", "runtime_version": "1", "delegate": "cpu", "threads": 1, "cores": [0], "batch": 1,
             "precision": "float32", "cpu_model": "x"}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A file of version 1 with one block and one visit."""
    path = tmp_path / "cpu.lut"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    facts = {"kind": schema.FILE_KIND, "schema_version": 1, "condition": CONDITION}
    connection.executemany("INSERT INTO facts VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()])
    connection.execute("INSERT INTO subjects VALUES (1, ?, 'block', '', ?)", (BLOCK.key, json.dumps(BLOCK.to_dict())))
    connection.execute("INSERT INTO sequences VALUES (1, '1')")
    connection.execute("INSERT INTO sequence_subjects VALUES (1, 0, 1)")
    samples = zlib.compress(np.full(20, 3_000_000, "<i8").tobytes())
    connection.execute(
        "INSERT INTO visits (plan_id, attempt, mode, round, sequence_id, cycles, worker, samples) VALUES ('v', 0, 'chain', 0, 1, 20, 'w', ?)",
        (samples,),
    )
    connection.commit()
    connection.close()
    return path


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def version(path):
    connection = sqlite3.connect(path)
    ((found,),) = connection.execute("SELECT value FROM facts WHERE name = 'schema_version'")
    connection.close()
    return int(found)


def test_reading_an_older_file_leaves_it_untouched(path):
    before = files(path.parent)
    assert LatencyTable.open(path).latency_ms([BLOCK]) == 3.0
    with MeasurementStore(path, read_only=True) as store:
        assert store.finished_plans() == {"v"}
        assert [visit.repeats for _, visit, _ in store.samples("block")] == [1]
        assert (store.outcomes(), store.warnings(), store.figures()) == ([], [], [])
    assert files(path.parent) == before


def test_opening_an_older_file_for_writing_keeps_it_beside_and_goes_on_in_the_new_one(path):
    with MeasurementStore(path) as store:
        store.set_outcomes([Outcome(BLOCK.key, "chain", "precise", 0.01, 1)])
        store.add_visit("w", "chain", 0, [BLOCK.key], np.array([[6_000_000] * 20]), repeats=2)
    kept = path.with_name("cpu.schema1.lut")
    assert sorted(files(path.parent)) == ["cpu.lut", "cpu.schema1.lut"]
    assert (version(path), version(kept)) == (2, 1)
    with MeasurementStore(path, read_only=True) as store, MeasurementStore(kept, read_only=True) as old:
        assert (store.finished_plans(), old.finished_plans()) == ({"v", "w"}, {"v"})
    assert LatencyTable.open(path).latency_ms([BLOCK]) == LatencyTable.open(kept).latency_ms([BLOCK]) == 3.0
    before = files(path.parent)
    MeasurementStore(path).close()
    assert files(path.parent) == before


def test_a_migrated_file_has_the_tables_of_a_new_one(path):
    MeasurementStore(path).close()
    with MeasurementStore(path.with_name("new.lut")) as store:
        store.set_provenance({"x": 1})
    assert columns(path) == columns(path.with_name("new.lut"))


def columns(path):
    """Name, place, default and key of each column; INTEGER and BIGINT are one to SQLite."""
    connection = sqlite3.connect(path)
    found = {table: connection.execute(f"PRAGMA table_info({table})").fetchall() for table in schema.METADATA.tables}
    connection.close()
    return {table: [row[:2] + row[3:] for row in rows] for table, rows in found.items()}


def test_another_file_under_the_name_the_old_one_would_get_is_not_overwritten(path):
    path.with_name("cpu.schema1.lut").write_bytes(b"mine")
    before = files(path.parent)
    with pytest.raises(StoreError, match=r"cpu\.lut is of an older schema and would be kept as .*cpu\.schema1\.lut, but that is another file"):
        MeasurementStore(path)
    after = files(path.parent)
    assert sorted(after) == sorted(before)
    assert after["cpu.schema1.lut"] == b"mine"
    assert version(path) == 1


def test_a_migration_that_was_killed_is_made_again(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("luts.versions.prepare", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            MeasurementStore(path)
    assert version(path) == 1
    with MeasurementStore(path) as store:
        assert store.finished_plans() == {"v"}
    assert (version(path), version(path.with_name("cpu.schema1.lut"))) == (2, 1)


@pytest.mark.parametrize("found", [0, -1, "2", None, [1]])
def test_a_version_that_never_was_is_refused(path, found):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET value = ? WHERE name = 'schema_version'", (json.dumps(found),))
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="has schema version .*, expected 2"):
        MeasurementStore(path, read_only=True)
