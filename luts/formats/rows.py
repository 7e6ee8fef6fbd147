"""A table as flat rows, one a block: what CSV, Parquet and data frames hold.

Each row repeats the condition, so that rows of several tables can stand in one sheet; a table is read back from rows of
one condition, mode and space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luts.condition import Condition
from luts.formats.base import TableContent, TableFileError
from luts.formats.values import ENTRY_FIELDS, condition_of, entry_of, entry_values, field_names, no_others, text
from luts.table import LatencyTable

_CONDITION = field_names(Condition)
_SHARED = [*_CONDITION, "mode", "space"]
COLUMNS = [*ENTRY_FIELDS, *_SHARED]


def rows(table: LatencyTable) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each entry; `cores` as text such as `0,1`, an unknown space as empty text."""
    shared = {**table.condition.to_dict(), "cores": ",".join(map(str, table.condition.cores)), "mode": table.mode, "space": table.space or ""}
    return [{**entry_values(entry), **shared} for entry in table.entries.values()]


def networks_not_held(table: LatencyTable) -> list[str]:
    """Return what rows cannot hold of the table."""
    count = len(table.networks())
    return [f"the {count} whole networks measured beside the blocks are left out: a row is a block (json holds networks)"] if count else []


def content_of_rows(found: Sequence[Mapping[str, Any]]) -> TableContent:
    """Return the table in rows.

    Raises:
        TableFileError: a value is missing or wrong, a column unknown, or rows are of several conditions, modes or spaces.
    """
    if not found:
        raise TableFileError("there is no row in it; expected one a block")
    first = found[0]
    no_others(first, COLUMNS)
    entries = []
    for number, row in enumerate(found, start=1):
        try:
            entries.append(entry_of(row))
            differing = next((name for name in _SHARED if row.get(name) != first.get(name)), None)
        except TableFileError as error:
            raise TableFileError(f"row {number}: {error}") from None
        if differing is not None:
            raise TableFileError(f"row {number} has another {differing} than row 1; expected rows of one table")
    condition = condition_of({name: first[name] for name in _CONDITION if name in first})
    return TableContent(tuple(entries), condition, text(first.get("mode"), "mode"), text(first.get("space"), "space") or None)
