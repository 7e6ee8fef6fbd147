from __future__ import annotations

import itertools
import sys

import pytest
from postgres_server import postgres_server
from sqlalchemy import create_engine, text
from store_contract import CONDITION, SUBJECTS, StoreContract, alone

from luts.store import MeasurementStore, StoreBusyError, StoreError
from luts.table import LatencyTable

COUNTER = itertools.count()


@pytest.fixture(scope="module")
def server():
    with postgres_server() as url:
        yield url


@pytest.fixture
def place(server):
    return f"{server}&schema=store_{next(COUNTER)}"


class TestStoreOnPostgres(StoreContract):
    pass


def execute(server, *statements):
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_schemas_of_one_database_are_stores_of_their_own(server):
    with MeasurementStore(f"{server}&schema=one") as one, MeasurementStore(f"{server}&schema=two") as two, MeasurementStore(server) as default:
        for store in (one, two, default):
            store.add_subjects(SUBJECTS)
        alone(one, "v")
        assert (one.finished_plans(), two.finished_plans(), default.finished_plans()) == ({"v"}, set(), set())


def test_opening_a_store_again_finds_what_is_in_it_and_reading_writes_nothing(place):
    with MeasurementStore(place) as store:
        store.set_condition(CONDITION)
    with MeasurementStore(place, read_only=True) as store:
        assert store.condition() == CONDITION
        with pytest.raises(StoreError, match="is opened for reading only"):
            store.set_provenance({"x": 1})
    assert LatencyTable.open(place).condition == CONDITION


def test_a_schema_that_is_not_there_is_empty_for_reading_and_not_made(place, server):
    for _ in range(2):
        with pytest.raises(StoreError, match="is empty; expected measurements"):
            MeasurementStore(place, read_only=True)


def test_tables_of_another_kind_and_newer_ones_are_refused(place, server):
    name = place.rpartition("=")[2]
    execute(server, f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.recipes (name TEXT)")
    for read_only in (True, False):
        with pytest.raises(StoreError, match="is a database of another kind"):
            MeasurementStore(place, read_only=read_only)
    execute(server, f"DROP TABLE {name}.recipes")
    MeasurementStore(place).close()
    execute(server, f"UPDATE {name}.facts SET value = '7' WHERE name = 'schema_version'")
    with pytest.raises(StoreError, match="has schema version 7, expected 2"):
        MeasurementStore(place)


def test_damaged_content_is_told_naming_the_store(place, server):
    name = place.rpartition("=")[2]
    with MeasurementStore(place) as store:
        store.add_subjects(SUBJECTS)
        alone(store, "v")
        execute(server, f"UPDATE {name}.visits SET samples = 'x'")
        with pytest.raises(StoreError, match=rf"{name} is damaged \(error: Error -"):
            list(store.samples("block"))


def test_a_writer_that_does_not_end_is_reported_after_the_busy_timeout(place):
    with MeasurementStore(place) as first, MeasurementStore(place, busy_timeout_s=0.1) as impatient:
        with first._database.writing(), pytest.raises(StoreBusyError, match="is being written by another process"):
            impatient.set_warnings([])
        impatient.set_warnings([])


def test_a_server_that_ended_the_connection_is_told_and_the_next_transaction_works(place, server):
    with MeasurementStore(place) as store:
        store.add_subjects(SUBJECTS)
        with pytest.raises(ConnectionError, match="cannot be reached"), store._database.writing() as connection:
            process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            execute(server, f"SELECT pg_terminate_backend({process})")
            connection.execute(text("SELECT 1"))
        alone(store, "v")
        assert store.finished_plans() == {"v"}


def test_a_user_without_the_right_to_write_is_told(place, server):
    MeasurementStore(place).close()
    name = place.rpartition("=")[2]
    execute(server, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN", f"GRANT USAGE ON SCHEMA {name} TO reader",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO reader")  # fmt: skip
    with MeasurementStore(place.replace("tests@", "reader@")) as store, pytest.raises(PermissionError, match="cannot be written by this user"):
        store.set_provenance({"x": 1})


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("postgresql://me:secret@localhost:1/lab", ConnectionError, r"me:\*\*\*@localhost:1/lab cannot be reached"),
        ("postgresql://localhost:port/lab", StoreError, "is no URL"),
        ("postgresql://localhost/lab?schema=A b", StoreError, "schema 'A b' is no name"),
        ("postgresql://localhost/lab?schema=a&schema=b", StoreError, "is no name for a schema"),
    ],
)
def test_urls_that_lead_nowhere_are_told_without_their_password(url, error, words):
    with pytest.raises(error, match=words) as told:
        MeasurementStore(url)
    assert "secret" not in str(told.value)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"needs the package 'psycopg'; install it with pip install 'elastic-latency\[postgres\]'"):
        MeasurementStore("postgresql://localhost/lab")
