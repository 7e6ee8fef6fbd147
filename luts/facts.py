"""Facts about a whole store: name → JSON value."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select

from luts.schema import FACTS


def to_json(value: Any) -> str:
    """Return the one text that stands for a value, so that equal values are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read(connection: Connection, name: str) -> Any:
    """Return a fact; None where it was never noted."""
    value = connection.execute(select(FACTS.c.value).where(FACTS.c.name == name)).scalar_one_or_none()
    return None if value is None else json.loads(value)


def write(connection: Connection, name: str, value: Any) -> None:
    """Replace a fact."""
    connection.execute(FACTS.delete().where(FACTS.c.name == name))
    connection.execute(FACTS.insert().values(name=name, value=to_json(value)))
