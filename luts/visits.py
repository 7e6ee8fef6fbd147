"""Rows of visits: which subjects ran one after another, and their samples as zlib over little-endian int64 nanoseconds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, select

from luts import subjects
from luts.errors import StoreError
from luts.records import State, Subject, VisitRecord
from luts.schema import SEQUENCE_SUBJECTS, SEQUENCES, STATE_FIELDS, SUBJECTS, VISITS

Samples = np.ndarray[Any, np.dtype[np.int64]]

COMPRESSION = 6


def values_of(plan_id: str, mode: str, round: int, count: int, samples_ns: Samples, states: tuple[State, State], worker: str,
              discarded: str | None, repeats: int) -> dict[str, Any]:  # fmt: skip
    """Return a visit's row, as far as it says nothing of other rows, once its `count` subjects' samples are found sane.

    Raises:
        StoreError: the samples are no latencies, or a state has an unknown field.
    """
    samples = np.asarray(samples_ns)
    if samples.ndim != 2 or samples.shape[0] != count or not samples.size or samples.dtype.kind not in "iu":
        raise StoreError(f"samples of visit {plan_id!r} are {samples.dtype} of shape {samples.shape}; expected integers, ({count}, n_cycles)")
    if samples.min() < 1 or repeats < 1:
        raise StoreError(f"visit {plan_id!r} has a sample of {samples.min()} ns and {repeats} repeats; expected at least 1 ns and 1")
    compressed = zlib.compress(np.ascontiguousarray(samples, dtype="<i8").tobytes(), COMPRESSION)
    return {
        "plan_id": plan_id, "mode": mode, "round": round, "worker": worker, "discarded": discarded, "cycles": samples.shape[1],
        "samples": compressed, "repeats": repeats, **_state_values("before", states[0]), **_state_values("after", states[1]),
    }  # fmt: skip


def _state_values(when: str, state: State) -> dict[str, Any]:
    unknown = sorted(set(state) - set(STATE_FIELDS))
    if unknown:
        raise StoreError(f"a device's state has no field {unknown[0]!r}; its fields are {', '.join(STATE_FIELDS)}")
    return {f"{when}_{name}": None if state.get(name) is None else int(state[name]) if name == "throttled" else state[name] for name in STATE_FIELDS}


def insert(connection: Connection, made: Sequence[tuple[Mapping[str, Any], Sequence[str]]], name: str) -> None:
    """Add visits: each a row of `values_of`, and the keys of its subjects.

    Raises:
        StoreError: a subject was not declared.
        IntegrityError: a visit is there already.
    """
    ids = subjects.ids(connection, (key for _, keys in made for key in keys), name)
    sequences: dict[tuple[int, ...], int] = {}
    attempts: dict[str, int] = {}
    rows = []
    for values, keys in made:
        sequence, plan_id, attempt = tuple(ids[key] for key in keys), values["plan_id"], 0
        if sequence not in sequences:
            sequences[sequence] = _sequence_id(connection, sequence)
        if values["discarded"] is not None:
            attempt = attempts[plan_id] = 1 + (attempts.get(plan_id) or _last_attempt(connection, plan_id))
        rows.append({**values, "attempt": attempt, "sequence_id": sequences[sequence]})
    if rows:
        connection.execute(VISITS.insert(), rows)


def _last_attempt(connection: Connection, plan_id: str) -> int:
    return connection.execute(select(func.max(VISITS.c.attempt)).where(VISITS.c.plan_id == plan_id)).scalar_one() or 0


def _sequence_id(connection: Connection, ids: Sequence[int]) -> int:
    text = " ".join(map(str, ids))
    same = select(SEQUENCES.c.id).where(SEQUENCES.c.subjects == text)
    known = connection.execute(same).scalar_one_or_none()
    if known is None:
        connection.execute(SEQUENCES.insert().values(subjects=text))
        known = connection.execute(same).scalar_one()
        positions = [{"sequence_id": known, "position": position, "subject_id": subject} for position, subject in enumerate(ids)]
        connection.execute(SEQUENCE_SUBJECTS.insert(), positions)
    return int(known)


def finished(connection: Connection) -> set[str]:
    """Return the plan ids of all visits that count."""
    return set(connection.execute(select(VISITS.c.plan_id).where(VISITS.c.attempt == 0)).scalars())


def read(connection: Connection, kind: str, mode: str | None, include_discarded: bool) -> tuple[list[Row[Any]], dict[int, list[Subject]]]:
    """Return the rows of all visits that a subject of the kind took part in, in order of time, and sequence id → subjects."""
    declared, place = subjects.read(connection), SEQUENCE_SUBJECTS.c
    sequences: dict[int, list[Subject]] = {}
    for row in connection.execute(select(SEQUENCE_SUBJECTS).order_by(place.sequence_id, place.position)):
        sequences.setdefault(row.sequence_id, []).append(declared[row.subject_id])
    of_kind = select(place.sequence_id).join(SUBJECTS).where(SUBJECTS.c.kind == kind)
    wanted = select(*_COLUMNS).where(VISITS.c.sequence_id.in_(of_kind)).order_by(VISITS.c.id)
    if mode is not None:
        wanted = wanted.where(VISITS.c.mode == mode)
    if not include_discarded:
        wanted = wanted.where(VISITS.c.attempt == 0)
    return list(connection.execute(wanted).all()), sequences


_COLUMNS = [VISITS.c[name] for name in (
    "sequence_id", "cycles", "samples", "id", "plan_id", "mode", "round", "worker", "discarded", "repeats",
    *(f"{when}_{name}" for when in ("before", "after") for name in STATE_FIELDS),
)]  # fmt: skip


def decoded(row: Row[Any]) -> tuple[VisitRecord, Samples]:
    """Return what a row of `read` says: the visit, and its samples, shape (n_subjects, n_cycles).

    Raises:
        ValueError, TypeError, zlib.error: the row is damaged.
    """
    _, cycles, compressed, number, plan_id, mode, round_number, worker, discarded, repeats, *states = tuple(row)
    if repeats < 1:
        raise ValueError(f"visit {plan_id!r} has {repeats} repeats")
    middle = len(STATE_FIELDS)
    visit = VisitRecord(number, plan_id, mode, round_number, worker, discarded, _state(states[:middle]), _state(states[middle:]), repeats)
    return visit, np.frombuffer(zlib.decompress(compressed), dtype="<i8").astype(np.int64, copy=False).reshape(-1, cycles)


def _state(values: Sequence[Any]) -> State:
    state = dict(zip(STATE_FIELDS, values, strict=True))
    state["throttled"] = None if state["throttled"] is None else bool(state["throttled"])
    return state
