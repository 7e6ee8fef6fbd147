"""The measurement store: every sample ever taken, in one SQLite file a device and condition.

Samples are int64 nanoseconds. Each visit is committed before the next begins, under an id of its plan that can be there
only once; so a killed measurement goes on where it was, and nothing is measured twice.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from luts import schema
from luts.accuracies import AccuracyProtocol, AccuracyRow
from luts.condition import Condition
from luts.sqlite_file import SqliteFile, StoreBusyError, StoreError, StoreFullError, file_path
from supernets.space import Architecture

__all__ = ["AccuracyProtocol", "AccuracyRow", "MeasurementStore", "StoreBusyError", "StoreError", "StoreFullError", "Subject", "VisitRecord"]

Samples = np.ndarray[Any, np.dtype[np.int64]]
State = Mapping[str, Any]  # of the device: the names of schema.STATE_FIELDS → value, None or absent where unknown

BUSY_TIMEOUT_S = 10.0
CHECKPOINT_INTERVAL_S = 5.0  # the most that a power cut can take


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a block or a whole network, described by `spec`; `role` says what for."""

    key: str
    kind: str
    role: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VisitRecord:
    """When and how a visit was made; `number` orders the visits of a file by time."""

    number: int
    plan_id: str
    mode: str
    round: int
    worker: str
    discarded: str | None
    state_before: State
    state_after: State


class MeasurementStore:
    """A file of measurements, made where there is none; a context manager that closes it.

    Raises:
        FileNotFoundError: no such file (for reading), or no folder to make it in.
        StoreError: a file of another kind, or of a newer schema.
    """

    def __init__(self, url_or_path: str | Path, read_only: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = file_path(url_or_path)
        self.read_only = read_only
        if not read_only and self.path.is_file() and self.path.stat().st_size:
            with MeasurementStore(self.path, read_only=True, busy_timeout_s=busy_timeout_s):
                pass  # a file that is refused must not be touched first
        self._file = SqliteFile(self.path, read_only, busy_timeout_s)
        try:
            self._check_kind()
        except BaseException:
            self._file.close()
            raise
        self._subject_ids: dict[str, int] = {}
        self._sequence_ids: dict[str, int] = {}
        self._checkpointed_s = time.monotonic()

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what is committed stays, and a log beside it may too."""
        self._file.close()

    def finish(self) -> None:
        """Make the file self-contained, so that it can be copied and read alone; adding to it afterwards is fine.

        Raises:
            StoreBusyError: another process has it open.
        """
        self._file.finish()

    def _check_kind(self) -> None:
        with self._file.reading() as connection:
            tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
            known = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'facts'").scalar_one()
        if tables and not (known and self._fact("kind") == schema.FILE_KIND):
            raise StoreError(f"{self.path} is an SQLite file of another kind; expected measurements, as `profiler collect` writes them")
        if not tables and self.read_only:
            raise StoreError(f"{self.path} is empty; expected measurements, as `profiler collect` writes them")
        if not tables:
            with self._file.writing() as connection:
                schema.METADATA.create_all(connection)
                if connection.execute(select(func.count()).select_from(schema.FACTS)).scalar_one() == 0:
                    self._write_fact(connection, "kind", schema.FILE_KIND)
                    self._write_fact(connection, "schema_version", schema.SCHEMA_VERSION)
        version = self._fact("schema_version")
        if version != schema.SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}, expected {schema.SCHEMA_VERSION}; read it with the release that wrote it, or newer"
            )

    # --- facts about the whole file ---------------------------------------------------------------------------------

    def condition(self) -> Condition | None:
        """Return the condition of all measurements here; None before the first."""
        values = self._fact("condition")
        return None if values is None else Condition.from_dict(values)

    def set_condition(self, condition: Condition) -> None:
        """Bind the file to a condition; the one it has already is fine.

        Raises:
            StoreError: the file holds measurements of another condition; the text names the fields.
        """
        present = self.condition()
        if present is None:
            self._set_fact("condition", condition.to_dict())
        elif present != condition:
            differences = "; ".join(f"{name} {old!r} there, {new!r} now" for name, (old, new) in present.differences(condition).items())
            raise StoreError(f"{self.path} holds measurements of another condition ({differences}); collect into another file")

    def provenance(self) -> dict[str, Any]:
        """Return how the measurements came to be: whatever the measuring tool noted."""
        return dict(self._fact("provenance") or {})

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Replace the provenance by a JSON-serialisable mapping."""
        self._set_fact("provenance", dict(provenance))

    def collection(self) -> dict[str, Any] | None:
        """Return the plan by which a whole space was measured here; None if none was begun."""
        values: dict[str, Any] | None = self._fact("collection")
        return values

    def set_collection(self, collection: Mapping[str, Any]) -> None:
        """Replace the plan's description by a JSON-serialisable mapping."""
        self._set_fact("collection", dict(collection))

    def _fact(self, name: str) -> Any:
        with self._file.reading() as connection:
            value = connection.execute(select(schema.FACTS.c.value).where(schema.FACTS.c.name == name)).scalar_one_or_none()
        return None if value is None else json.loads(value)

    def _set_fact(self, name: str, value: Any) -> None:
        if self._fact(name) != value:
            with self._file.writing() as connection:
                self._write_fact(connection, name, value)

    def _write_fact(self, connection: Connection, name: str, value: Any) -> None:
        connection.execute(schema.FACTS.delete().where(schema.FACTS.c.name == name))
        connection.execute(schema.FACTS.insert().values(name=name, value=_json(value)))

    # --- latencies --------------------------------------------------------------------------------------------------

    def add_subject(self, key: str, kind: str, spec: Mapping[str, Any], role: str = "") -> None:
        """Declare something to be measured; declaring it again is fine."""
        self.add_subjects([Subject(key, kind, role, spec)])

    def add_subjects(self, subjects: Iterable[Subject]) -> None:
        """Declare what is to be measured, all in one transaction.

        Raises:
            StoreError: a key stands for something else already, or a kind is neither block nor network.
        """
        known = {subject.key: subject for _, subject in self._subjects()}
        fresh = []
        for subject in subjects:
            if subject.kind not in ("block", "network"):
                raise StoreError(f"kind of subject {subject.key!r} is {subject.kind!r}; expected 'block' or 'network'")
            if known.setdefault(subject.key, subject) is subject:
                fresh.append({"key": subject.key, "kind": subject.kind, "role": subject.role, "spec": _json(subject.spec)})
            elif _comparable(known[subject.key]) != _comparable(subject):
                raise StoreError(f"subject {subject.key!r} of {self.path} is something else already; measure it under another name")
        if fresh:
            with self._file.writing() as connection:
                connection.execute(schema.SUBJECTS.insert(), fresh)

    def subjects(self) -> list[Subject]:
        """Return everything declared, in order of declaration."""
        return [subject for _, subject in self._subjects()]

    def _subjects(self) -> list[tuple[int, Subject]]:
        with self._file.reading() as connection:
            rows = connection.execute(select(schema.SUBJECTS).order_by(schema.SUBJECTS.c.id)).all()
        return [(row.id, Subject(row.key, row.kind, row.role, json.loads(row.spec))) for row in rows]

    def add_visit(self, plan_id: str, mode: str, round: int, subjects: Sequence[str], samples_ns: Samples,
                  states: tuple[State, State] = ({}, {}), worker: str = "", discarded: str | None = None) -> None:  # fmt: skip
        """Commit one visit: its subjects' keys in order of execution and their samples, shape (n_subjects, n_cycles).

        A visit `discarded` for a reason is kept, but counts neither as finished nor in `samples`.

        Raises:
            StoreError: the visit is there already, a subject was not declared, or the samples are no latencies.
            StoreFullError: the disk is full.
        """
        samples = np.asarray(samples_ns)
        if samples.ndim != 2 or samples.shape[0] != len(subjects) or not samples.size or samples.dtype.kind not in "iu":
            raise StoreError(
                f"samples of visit {plan_id!r} are {samples.dtype} of shape {samples.shape}; expected integers, ({len(subjects)}, n_cycles)"
            )
        if samples.min() < 1:
            raise StoreError(f"visit {plan_id!r} has a sample of {samples.min()} ns; expected at least 1 ns")
        row: dict[str, Any] = {"plan_id": plan_id, "discarded": discarded, "mode": mode, "round": round, "worker": worker, "cycles": samples.shape[1]}
        for when, state in zip(("before", "after"), states, strict=True):
            row.update(_state_columns(when, state))
        row["samples"] = zlib.compress(np.ascontiguousarray(samples, dtype="<i8").tobytes(), 6)
        try:
            with self._file.writing() as connection:
                row["attempt"] = self._attempt(connection, plan_id) if discarded is not None else 0
                row["sequence_id"] = self._sequence_id(connection, subjects)
                connection.execute(schema.VISITS.insert().values(row))
        except IntegrityError:
            self._sequence_ids.clear()
            raise StoreError(f"visit {plan_id!r} is in {self.path} already; let only one process at a time measure into a file") from None
        except BaseException:
            self._sequence_ids.clear()  # what was rolled back has no id
            raise
        if time.monotonic() - self._checkpointed_s > CHECKPOINT_INTERVAL_S:
            self._file.checkpoint()
            self._checkpointed_s = time.monotonic()

    def _attempt(self, connection: Connection, plan_id: str) -> int:
        attempts = select(func.max(schema.VISITS.c.attempt)).where(schema.VISITS.c.plan_id == plan_id)
        return 1 + (connection.execute(attempts).scalar_one() or 0)

    def _sequence_id(self, connection: Connection, keys: Sequence[str]) -> int:
        ids = [self._subject_id(connection, key) for key in keys]
        text = " ".join(map(str, ids))
        if text not in self._sequence_ids:
            found = connection.execute(select(schema.SEQUENCES.c.id).where(schema.SEQUENCES.c.subjects == text)).scalar_one_or_none()
            if found is None:
                found = connection.execute(schema.SEQUENCES.insert().values(subjects=text)).lastrowid
                positions = [{"sequence_id": found, "position": position, "subject_id": subject} for position, subject in enumerate(ids)]
                connection.execute(schema.SEQUENCE_SUBJECTS.insert(), positions)
            self._sequence_ids[text] = found
        return self._sequence_ids[text]

    def _subject_id(self, connection: Connection, key: str) -> int:
        if key not in self._subject_ids:
            found = connection.execute(select(schema.SUBJECTS.c.id).where(schema.SUBJECTS.c.key == key)).scalar_one_or_none()
            if found is None:
                raise StoreError(f"subject {key!r} is not declared in {self.path}; declare it with add_subject before its visits")
            self._subject_ids[key] = found
        return self._subject_ids[key]

    def finished_plans(self) -> set[str]:
        """Return the plan ids of all visits that count."""
        with self._file.reading() as connection:
            return set(connection.execute(select(schema.VISITS.c.plan_id).where(schema.VISITS.c.attempt == 0)).scalars())

    def samples(self, kind: str, mode: str | None = None, include_discarded: bool = False) -> Iterator[tuple[Subject, VisitRecord, Samples]]:
        """Yield every subject of every visit in order of time, with its samples of that visit, shape (n_cycles,)."""
        visits, places, of_kind = schema.VISITS, schema.SEQUENCE_SUBJECTS.c, schema.SUBJECTS.c.kind == kind
        sequences = select(places.sequence_id).join(schema.SUBJECTS, places.subject_id == schema.SUBJECTS.c.id).where(of_kind)
        wanted = select(*_RECORD_COLUMNS).where(visits.c.sequence_id.in_(sequences)).order_by(visits.c.id)
        if mode is not None:
            wanted = wanted.where(visits.c.mode == mode)
        if not include_discarded:
            wanted = wanted.where(visits.c.attempt == 0)
        subjects = dict(self._subjects())
        with self._file.reading() as connection:
            subjects_of = self._sequences(connection)
            rows = connection.execute(wanted).all()
        for sequence_id, cycles, compressed, *record in rows:
            visit = _visit_record(record)
            samples = np.frombuffer(zlib.decompress(compressed), dtype="<i8").astype(np.int64, copy=False).reshape(-1, cycles)
            for subject_id, own_samples in zip(subjects_of[sequence_id], samples, strict=True):
                if subjects[subject_id].kind == kind:
                    yield subjects[subject_id], visit, own_samples

    def _sequences(self, connection: Connection) -> dict[int, list[int]]:
        table = schema.SEQUENCE_SUBJECTS
        found: dict[int, list[int]] = {}
        for row in connection.execute(select(table).order_by(table.c.sequence_id, table.c.position)):
            found.setdefault(row.sequence_id, []).append(row.subject_id)
        return found

    # --- accuracies -------------------------------------------------------------------------------------------------

    def add_accuracies(self, protocol: AccuracyProtocol, rows: Iterable[tuple[Architecture, float, bytes]]) -> None:
        """Commit evaluated architectures: (canonical architecture, top-1 share, hits packed eight images a byte), all or none.

        Raises:
            StoreError: an architecture was evaluated under this protocol already.
            ValueError: a row contradicts itself or its protocol.
            StoreFullError: the disk is full.
        """
        checked = [AccuracyRow(protocol, architecture, float(top1), bytes(hits)) for architecture, top1, hits in rows]
        if not checked:
            return
        try:
            with self._file.writing() as connection:
                protocol_id = self._protocol_id(connection, protocol)
                values = [
                    {"protocol_id": protocol_id, "architecture": _json(row.architecture.to_dict()), "top1": row.top1, "hits": row.hits}
                    for row in checked
                ]
                connection.execute(schema.ACCURACIES.insert(), values)
        except IntegrityError:
            raise StoreError(
                f"an architecture given to {self.path} was evaluated under this protocol already; leave out what `accuracies` returns"
            ) from None

    def _protocol_id(self, connection: Connection, protocol: AccuracyProtocol) -> int:
        table, text = schema.ACCURACY_PROTOCOLS, _json(protocol.to_dict())
        found = connection.execute(select(table.c.id).where(table.c.fields == text)).scalar_one_or_none()
        return int(connection.execute(table.insert().values(fields=text)).lastrowid if found is None else found)

    def accuracies(self, protocol: AccuracyProtocol | None = None) -> list[AccuracyRow]:
        """Return the evaluated architectures in order of evaluation: of one protocol, or of all."""
        joined = select(schema.ACCURACIES, schema.ACCURACY_PROTOCOLS.c.fields).join(schema.ACCURACY_PROTOCOLS).order_by(schema.ACCURACIES.c.id)
        if protocol is not None:
            joined = joined.where(schema.ACCURACY_PROTOCOLS.c.fields == _json(protocol.to_dict()))
        with self._file.reading() as connection:
            rows = connection.execute(joined).all()
        protocols = {text: AccuracyProtocol(**json.loads(text)) for text in {row.fields for row in rows}}
        return [AccuracyRow(protocols[row.fields], Architecture.from_dict(json.loads(row.architecture)), row.top1, row.hits) for row in rows]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _comparable(subject: Subject) -> tuple[str, str, str]:
    return subject.kind, subject.role, _json(subject.spec)


def _state_columns(when: str, state: State) -> dict[str, Any]:
    unknown = sorted(set(state) - set(schema.STATE_FIELDS))
    if unknown:
        raise StoreError(f"a device's state has no field {unknown[0]!r}; its fields are {', '.join(schema.STATE_FIELDS)}")
    return {f"{when}_{name}": state.get(name) for name in schema.STATE_FIELDS}


_STATE_COUNT = len(schema.STATE_FIELDS)
_RECORD_COLUMNS = [schema.VISITS.c[name] for name in (
    "sequence_id", "cycles", "samples", "id", "plan_id", "mode", "round", "worker", "discarded",
    *(f"{when}_{name}" for when in ("before", "after") for name in schema.STATE_FIELDS),
)]  # fmt: skip


def _visit_record(record: Sequence[Any]) -> VisitRecord:
    states = record[-2 * _STATE_COUNT :]
    number, plan_id, mode, round_number, worker, discarded = record[: -2 * _STATE_COUNT]
    return VisitRecord(number, plan_id, mode, round_number, worker, discarded, _state(states[:_STATE_COUNT]), _state(states[_STATE_COUNT:]))


def _state(values: Sequence[Any]) -> State:
    state = dict(zip(schema.STATE_FIELDS, values, strict=True))
    state["throttled"] = None if state["throttled"] is None else bool(state["throttled"])
    return state
