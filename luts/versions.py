"""From nothing, or from an older schema, to the schema of today."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect

from luts import facts, schema
from luts.errors import StoreError, damage_told


def version_of(connection: Connection, name: str) -> int | None:
    """Return the version of the schema there; None where there are no tables at all.

    Raises:
        StoreError: tables of another kind, or of a newer schema.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    with damage_told(name):
        if schema.FACTS.name not in tables or facts.read(connection, "kind") != schema.FILE_KIND:
            raise StoreError(f"{name} is a database of another kind; expected measurements, as `profiler collect` writes them")
        version = facts.read(connection, "schema_version")
    if not isinstance(version, int) or not 1 <= version <= schema.SCHEMA_VERSION:
        raise StoreError(f"{name} has schema version {version}, expected {schema.SCHEMA_VERSION}; read it with the release that wrote it, or newer")
    return version


def prepare(connection: Connection, name: str) -> None:
    """Make the tables where there are none, and bring older ones to the schema of today.

    Raises:
        StoreError: tables of another kind, or of a newer schema.
    """
    version = version_of(connection, name)
    if version is None:
        schema.METADATA.create_all(connection)
        facts.write(connection, "kind", schema.FILE_KIND)
    for older in range(version or schema.SCHEMA_VERSION, schema.SCHEMA_VERSION):
        _MIGRATIONS[older](connection)
    if version != schema.SCHEMA_VERSION:
        facts.write(connection, "schema_version", schema.SCHEMA_VERSION)


def _from_1_to_2(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE visits ADD COLUMN repeats INTEGER DEFAULT 1 NOT NULL")
    schema.METADATA.create_all(connection, tables=[schema.OUTCOMES, schema.WARNINGS, schema.CLAIMS, schema.FIGURES])


_MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: _from_1_to_2}
