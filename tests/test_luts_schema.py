from __future__ import annotations

import sqlite3
import zlib

import numpy as np

from luts import schema
from luts.store import MeasurementStore

# A change here is a change of the file format: raise SCHEMA_VERSION, and say in schema.py what changed.
PINNED = {
    "facts": "CREATE TABLE facts (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name))",
    "subjects": 'CREATE TABLE subjects (id INTEGER NOT NULL, "key" TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, spec TEXT NOT NULL, '
    "PRIMARY KEY (id), CONSTRAINT kind_is_known CHECK (kind IN ('block', 'network')), UNIQUE (\"key\"))",
    "sequences": "CREATE TABLE sequences (id INTEGER NOT NULL, subjects TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (subjects))",
    "sequence_subjects": "CREATE TABLE sequence_subjects (sequence_id INTEGER NOT NULL, position INTEGER NOT NULL, subject_id INTEGER NOT NULL, "
    "PRIMARY KEY (sequence_id, position), FOREIGN KEY(sequence_id) REFERENCES sequences (id), FOREIGN KEY(subject_id) REFERENCES subjects (id))",
    "visits": "CREATE TABLE visits (id INTEGER NOT NULL, plan_id TEXT NOT NULL, attempt INTEGER NOT NULL, discarded TEXT, mode TEXT NOT NULL, "
    "round INTEGER NOT NULL, sequence_id INTEGER NOT NULL, cycles INTEGER NOT NULL, worker TEXT NOT NULL, "
    "before_unix_time_ns BIGINT, before_load_1m FLOAT, before_frequency_khz INTEGER, before_temperature_c FLOAT, before_throttled INTEGER, "
    "before_memory_available_kb BIGINT, "
    "after_unix_time_ns BIGINT, after_load_1m FLOAT, after_frequency_khz INTEGER, after_temperature_c FLOAT, after_throttled INTEGER, "
    "after_memory_available_kb BIGINT, "
    "samples BLOB NOT NULL, repeats INTEGER DEFAULT 1 NOT NULL, PRIMARY KEY (id), CONSTRAINT nothing_is_measured_twice UNIQUE (plan_id, attempt), "
    "CONSTRAINT discarded_visits_do_not_count CHECK ((attempt = 0) = (discarded IS NULL)), FOREIGN KEY(sequence_id) REFERENCES sequences (id))",
    "outcomes": "CREATE TABLE outcomes (subject_id INTEGER NOT NULL, mode TEXT NOT NULL, stopped_by TEXT NOT NULL, relative_interval FLOAT, "
    "visits INTEGER NOT NULL, PRIMARY KEY (subject_id, mode), FOREIGN KEY(subject_id) REFERENCES subjects (id))",
    "warnings": "CREATE TABLE warnings (id INTEGER NOT NULL, code TEXT NOT NULL, numbers TEXT NOT NULL, text TEXT NOT NULL, "
    "unix_time_s FLOAT NOT NULL, PRIMARY KEY (id))",
    "claims": "CREATE TABLE claims (plan_id TEXT NOT NULL, collector TEXT NOT NULL, until_unix_s FLOAT NOT NULL, PRIMARY KEY (plan_id))",
    "figures": "CREATE TABLE figures (subject_id INTEGER NOT NULL, mode TEXT NOT NULL, origin TEXT NOT NULL, latency_ns FLOAT NOT NULL, "
    "relative_error FLOAT, visits INTEGER NOT NULL, samples INTEGER NOT NULL, source TEXT NOT NULL, PRIMARY KEY (subject_id, mode), "
    "FOREIGN KEY(subject_id) REFERENCES subjects (id))",
    "accuracy_protocols": "CREATE TABLE accuracy_protocols (id INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (fields))",
    "accuracies": "CREATE TABLE accuracies (id INTEGER NOT NULL, protocol_id INTEGER NOT NULL, architecture TEXT NOT NULL, top1 FLOAT NOT NULL, "
    "hits BLOB NOT NULL, PRIMARY KEY (id), CONSTRAINT nothing_is_evaluated_twice UNIQUE (protocol_id, architecture), "
    "FOREIGN KEY(protocol_id) REFERENCES accuracy_protocols (id))",
}


def test_the_tables_of_version_2_are_these_word_by_word(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.set_warnings([])
    connection = sqlite3.connect(tmp_path / "a.lut")
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    facts = dict(connection.execute("SELECT name, value FROM facts"))
    connection.close()
    assert {name: " ".join(sql.split()).replace("( ", "(").replace(" )", ")") for name, sql in found.items()} == PINNED
    assert facts == {"kind": '"elastic-latency measurements"', "schema_version": "2"}
    assert schema.SCHEMA_VERSION == 2


def test_samples_are_compressed_little_endian_int64_in_order_of_subjects(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_subject("a", "block", {})
        store.add_subject("b", "block", {})
        store.add_visit("v", "chain", 0, ["b", "a", "b"], np.array([[1, 2], [3, 2**40], [5, 6]]))
        store.finish()
    connection = sqlite3.connect(tmp_path / "a.lut")
    ((compressed, cycles, keys),) = connection.execute("SELECT samples, cycles, subjects FROM visits JOIN sequences ON sequences.id = sequence_id")
    connection.close()
    assert np.frombuffer(zlib.decompress(compressed), "<i8").tolist() == [1, 2, 3, 2**40, 5, 6]
    assert (cycles, keys) == (2, "2 1 2")
