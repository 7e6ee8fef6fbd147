"""Content of a store that is damaged: each cell of each table in turn, and bytes of the file; told as one sentence, or read rightly."""

from __future__ import annotations

import json
import sqlite3
import zlib

import numpy as np
import pytest

from luts.accuracies import AccuracyProtocol
from luts.condition import Condition
from luts.store import Figure, MeasurementStore, Outcome, StoredWarning, StoreError, Subject
from luts.table import LatencyTable
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
ARCHITECTURE = TINY.smallest()
BLOCKS = tuple(dict.fromkeys(TINY.blocks(ARCHITECTURE)))[:4]
PROTOCOL = AccuracyProtocol(TINY.name, "0" * 64, "images", 16, 8, 0, "float32")
DEEP = "[" * 100_000
STRANGE = [None, "", "{", "[]", "1", DEEP, 0, -1, 0.5, b"\x00\xff\xfe", zlib.compress(b"1")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished file with something in every table, and what it says."""
    path = tmp_path_factory.mktemp("damage") / "whole.lut"
    with MeasurementStore(path) as store:
        store.set_condition(Condition("local", "onnxruntime", "1", "cpu", 1, (0,), 1, "float32", "x"))
        store.set_provenance({"sessions": [{"a": 1}]})
        store.set_collection({"space": TINY.name})
        network = {"name": "n", "architecture": ARCHITECTURE.to_dict(), "blocks": [block.to_dict() for block in BLOCKS]}
        store.add_subjects([*map(Subject.of_block, BLOCKS), Subject("net", "network", "calibration", network)])
        keys = [block.key for block in BLOCKS]
        rng = np.random.default_rng(0)
        for number in range(3):
            store.add_visit(f"c{number}", "chain", number, keys[:3], rng.integers(10**5, 2 * 10**5, (3, 8)), ({"load_1m": 0.5}, {"throttled": False}))
            store.add_visit(f"a{number}", "alone", number, keys[:1], rng.integers(10**5, 2 * 10**5, (1, 8)), repeats=2)
            store.add_visit(f"n{number}", "network", number, ["net"], rng.integers(10**6, 2 * 10**6, (1, 8)))
        store.set_outcomes([Outcome(keys[0], "chain", "precise", 0.01, 3)])
        store.set_warnings([StoredWarning("slow", {"share": 0.5}, "slow", 1e9)])
        store.set_figures([Figure(keys[3], "chain", 5e5, 0.02, {"keys": keys[:2]})])
        store.claim(["c9"], "me", 0, 60)
        store.add_accuracies(PROTOCOL, [(ARCHITECTURE, 0.5, np.packbits([1, 0] * 8).tobytes())])
    return path, everything(path)


def everything(path):
    """What a user can read, as text; every number is of its type."""
    tables = [LatencyTable.open(path, mode) for mode in ("chain", "alone")]
    with MeasurementStore(path, read_only=True) as store:
        facts = [store.condition(), store.provenance(), store.collection(), store.subjects(), sorted(store.finished_plans())]
        findings = [store.outcomes(), store.warnings(), store.figures(), store.accuracies()]
        samples = [(subject, visit, own.tolist()) for kind in ("block", "network") for subject, visit, own in store.samples(kind, None, True)]
    for table in tables:
        assert all(isinstance(entry.latency_ms, float) and isinstance(entry.visits, int) for entry in table.entries.values())
    return {"samples": repr([own for _, _, own in samples]), "all": repr(([table.entries for table in tables], facts, findings, samples))}


def cells(path):
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = [
        (table, column[1], rowid, value)
        for table in tables
        for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
        for rowid, value in connection.execute(f'SELECT rowid, "{column[1]}" FROM {table}').fetchall()
    ]
    connection.close()
    return found


def damaged(whole_path, path, table, column, rowid, value):
    """Write a copy with one other value; whether the schema's rules allowed it."""
    path.write_bytes(whole_path.read_bytes())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (value, rowid))
        connection.commit()
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


def read_or_told(path):
    """What can be read of a file, or None where it is told to be damaged."""
    try:
        return everything(path)
    except StoreError as error:
        assert str(path) in str(error)
        return None


@pytest.mark.parametrize("strange", range(len(STRANGE)))
def test_a_strange_value_in_any_cell_is_told_or_harmless(whole, tmp_path, strange):
    path = tmp_path / "damaged.lut"
    tried = {(table, column): (rowid, value) for table, column, rowid, value in cells(whole[0])}  # the last row of each table
    for (table, column), (rowid, _) in tried.items():
        if damaged(whole[0], path, table, column, rowid, STRANGE[strange]):
            read_or_told(path)


def test_flipped_and_cut_bytes_of_stored_text_are_told_or_harmless(whole, tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged.lut"
    texts = [cell for cell in cells(whole[0]) if isinstance(cell[3], str) and len(cell[3]) > 1]
    told = 0
    for number in rng.choice(len(texts), 60):
        table, column, rowid, value = texts[number]
        content = bytearray(value.encode())
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        cut = content[: rng.integers(len(content))] if rng.random() < 0.3 else content
        if damaged(whole[0], path, table, column, rowid, sqlite3.Binary(bytes(cut)) if rng.random() < 0.5 else cut.decode("utf-8", "replace")):
            told += read_or_told(path) is None
    assert told > 10


def test_samples_with_a_wrong_bit_are_told_and_never_other_samples(whole, tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "damaged.lut"
    blobs = [cell for cell in cells(whole[0]) if cell[:2] == ("visits", "samples")]
    told = 0
    for _ in range(60):
        table, column, rowid, value = blobs[rng.integers(len(blobs))]
        content = bytearray(value)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        cut = content[: rng.integers(len(content))] if rng.random() < 0.3 else content
        assert damaged(whole[0], path, table, column, rowid, bytes(cut))
        found = read_or_told(path)
        assert found is None or found["samples"] == whole[1]["samples"]
        told += found is None
    assert told > 50


def test_any_wrong_byte_of_the_file_is_told_or_harmless(whole, tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "damaged.lut"
    content = whole[0].read_bytes()
    for _ in range(80):
        wrong = bytearray(content)
        for place in rng.integers(100, len(content), 8):
            wrong[place] ^= 1 << rng.integers(8)
        path.write_bytes(wrong[: rng.integers(100, len(wrong))] if rng.random() < 0.2 else wrong)
        read_or_told(path)


def test_a_fact_of_another_shape_is_named(whole, tmp_path):
    path = tmp_path / "damaged.lut"
    for name, value, words in (("provenance", [1], "provenance is"), ("condition", {"device": 1}, "field '"), ("condition", 5, "TypeError")):
        rowid = next(row for table, column, row, old in cells(whole[0]) if (table, column, old) == ("facts", "name", name))
        assert damaged(whole[0], path, "facts", "value", rowid, json.dumps(value))
        with pytest.raises(StoreError, match=rf"damaged\.lut is damaged \(.*{words}"):
            everything(path)
