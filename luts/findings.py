"""Rows of what was concluded from measurements: outcomes, warnings, and figures without samples."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, select

from luts import subjects
from luts.facts import to_json
from luts.records import Figure, Outcome, StoredWarning
from luts.schema import FIGURES, OUTCOMES, SUBJECTS, WARNINGS


def write_outcomes(connection: Connection, outcomes: Sequence[Outcome], name: str) -> None:
    """Replace the outcomes of the same subjects and modes."""
    ids = subjects.ids(connection, (outcome.key for outcome in outcomes), name)
    rows = [
        {"subject_id": ids[outcome.key], "mode": outcome.mode, "stopped_by": outcome.stopped_by, "relative_interval": outcome.relative_interval,
         "visits": outcome.visits}
        for outcome in outcomes
    ]  # fmt: skip
    same = and_(OUTCOMES.c.subject_id == bindparam("old_subject"), OUTCOMES.c.mode == bindparam("old_mode"))
    if rows:
        connection.execute(OUTCOMES.delete().where(same), [{"old_subject": row["subject_id"], "old_mode": row["mode"]} for row in rows])
        connection.execute(OUTCOMES.insert(), rows)


def read_outcomes(connection: Connection) -> list[Outcome]:
    """Return all outcomes, in order of their subjects' declaration."""
    rows = connection.execute(select(SUBJECTS.c.key, OUTCOMES).join(SUBJECTS).order_by(OUTCOMES.c.subject_id, OUTCOMES.c.mode))
    return [Outcome(row.key, row.mode, row.stopped_by, row.relative_interval, row.visits) for row in rows]


def write_warnings(connection: Connection, warnings: Sequence[StoredWarning]) -> None:
    """Replace all warnings."""
    connection.execute(WARNINGS.delete())
    if warnings:
        connection.execute(
            WARNINGS.insert(),
            [{"code": found.code, "numbers": to_json(found.numbers), "text": found.text, "unix_time_s": found.unix_time_s} for found in warnings],
        )


def read_warnings(connection: Connection) -> list[StoredWarning]:
    """Return all warnings as they were given."""
    rows = connection.execute(select(WARNINGS).order_by(WARNINGS.c.id))
    return [StoredWarning(row.code, json.loads(row.numbers), row.text, row.unix_time_s) for row in rows]


def write_figures(connection: Connection, figures: Sequence[Figure], name: str) -> None:
    """Replace all figures."""
    ids = subjects.ids(connection, (figure.key for figure in figures), name)
    rows = [
        {"subject_id": ids[figure.key], "mode": figure.mode, "origin": figure.origin, "latency_ns": figure.latency_ns,
         "relative_error": figure.relative_error, "visits": figure.visits, "samples": figure.samples, "source": to_json(figure.source)}
        for figure in figures
    ]  # fmt: skip
    connection.execute(FIGURES.delete())
    if rows:
        connection.execute(FIGURES.insert(), rows)


def read_figures(connection: Connection) -> list[Figure]:
    """Return all figures, in order of their subjects' declaration."""
    rows = connection.execute(select(SUBJECTS.c.key, FIGURES).join(SUBJECTS).order_by(FIGURES.c.subject_id, FIGURES.c.mode))
    return [
        Figure(row.key, row.mode, row.latency_ns, row.relative_error, json.loads(row.source), row.origin, row.visits, row.samples) for row in rows
    ]
