"""Rows of subjects: their ids by key, and the other way round."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from luts.errors import StoreError, damage_told
from luts.facts import to_json
from luts.records import Subject
from luts.schema import SUBJECTS


def insert(connection: Connection, subjects: Iterable[Subject], name: str) -> None:
    """Add the subjects that are not there yet.

    Raises:
        StoreError: a key stands for something else already.
    """
    with damage_told(name):
        known = {subject.key: subject for subject in read(connection).values()}
    fresh: list[dict[str, Any]] = []
    for subject in subjects:
        if known.setdefault(subject.key, subject) is subject:
            fresh.append({"key": subject.key, "kind": subject.kind, "role": subject.role, "spec": to_json(subject.spec)})
        elif _comparable(known[subject.key]) != _comparable(subject):
            raise StoreError(f"subject {subject.key!r} of {name} is something else already; measure it under another name")
    if fresh:
        connection.execute(SUBJECTS.insert(), fresh)


def _comparable(subject: Subject) -> tuple[str, str, str]:
    return subject.kind, subject.role, to_json(subject.spec)


def read(connection: Connection) -> dict[int, Subject]:
    """Return id → subject in order of declaration."""
    rows = connection.execute(select(SUBJECTS).order_by(SUBJECTS.c.id)).all()
    return {row.id: Subject(row.key, row.kind, row.role, json.loads(row.spec)) for row in rows}


def ids(connection: Connection, keys: Iterable[str], name: str) -> Mapping[str, int]:
    """Return key → id.

    Raises:
        StoreError: a subject was not declared.
    """
    wanted = list(dict.fromkeys(keys))
    found = {key: number for key, number in connection.execute(select(SUBJECTS.c.key, SUBJECTS.c.id).where(SUBJECTS.c.key.in_(wanted)))}
    for key in wanted:
        if key not in found:
            raise StoreError(f"subject {key!r} is not declared in {name}; declare it with add_subject first")
    return found
