"""The measurement store: every sample ever taken under one condition, in an SQLite file or on a PostgreSQL server.

Samples are int64 nanoseconds. Each visit is committed before the next begins, under an id of its plan that can be there
only once; so a killed measurement goes on where it was, and nothing is measured twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from luts import accuracies, claims, facts, findings, subjects, visits
from luts.accuracies import AccuracyProtocol, AccuracyRow
from luts.condition import Condition
from luts.database import Database
from luts.errors import StoreBusyError, StoreError, StoreFullError, damage_told
from luts.postgres import PREFIXES, PostgresDatabase
from luts.records import Figure, Outcome, State, StoredWarning, Subject, VisitRecord
from luts.sqlite_file import SqliteFile
from luts.visits import Samples
from supernets.space import Architecture

__all__ = [
    "AccuracyProtocol", "AccuracyRow", "Figure", "MeasurementStore", "Outcome", "Samples", "StoreBusyError", "StoreError", "StoreFullError",
    "StoredWarning", "Subject", "VisitRecord",
]  # fmt: skip

BUSY_TIMEOUT_S = 10.0


def open_database(url_or_path: str | Path, read_only: bool, busy_timeout_s: float) -> Database:
    """Return the database of a store: a file by its path or `sqlite:///` URL, or a schema of a PostgreSQL server by its URL.

    Raises:
        StoreError: a URL of another database.
    """
    text = str(url_or_path)
    if text.startswith(PREFIXES):
        return PostgresDatabase(text, read_only, busy_timeout_s)
    if "://" in text and (not text.startswith("sqlite:///") or text == "sqlite:///"):
        raise StoreError(f"{text} is not a place for measurements; expected the path of a file, sqlite:/// and a path, or postgresql://HOST/DATABASE")
    return SqliteFile(Path(text.removeprefix("sqlite:///")), read_only, busy_timeout_s)


class MeasurementStore:
    """Measurements at a place: the path of a file, made with the first thing added to it, or the URL of a PostgreSQL database.

    A context manager that closes it, and first brings everything into the file: it can be copied then and read alone, unless
    another process has it open too. Each method is one transaction.

    Raises:
        FileNotFoundError: no such file (for reading), or no folder to make it in.
        StoreError: measurements of a newer schema, or something else.
    """

    def __init__(self, url_or_path: str | Path, read_only: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._database = open_database(url_or_path, read_only, busy_timeout_s)
        self.name = self._database.name

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            with suppress(*(() if error is None else (OSError, StoreError))):  # what went wrong first is what is told
                self.finish()
        finally:
            self.close()

    def close(self) -> None:
        """Close the store as it is; what is committed stays."""
        self._database.close()

    def finish(self) -> None:
        """Bring everything into the file itself, unless another process has it open; adding to it afterwards is fine."""
        self._database.finish()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.reading() as connection, damage_told(self.name):
            yield connection

    # --- facts about the whole store --------------------------------------------------------------------------------

    def condition(self) -> Condition | None:
        """Return the condition of all measurements here; None before the first."""
        with self._reading() as connection:
            return _condition(connection)

    def set_condition(self, condition: Condition) -> None:
        """Bind the store to a condition; the one it has already is fine.

        Raises:
            StoreError: the store holds measurements of another condition; the text names the fields.
        """
        if self.condition() == condition:
            return
        with self._database.writing() as connection:
            with damage_told(self.name):
                present = _condition(connection)
            if present is not None and present != condition:
                differences = "; ".join(f"{name} {old!r} there, {new!r} now" for name, (old, new) in present.differences(condition).items())
                raise StoreError(f"{self.name} holds measurements of another condition ({differences}); collect into another file")
            facts.write(connection, "condition", condition.to_dict())

    def provenance(self) -> dict[str, Any]:
        """Return how the measurements came to be: whatever the measuring tool noted."""
        return dict(self._fact("provenance") or {})

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Replace the provenance by a JSON-serialisable mapping."""
        self._set_fact("provenance", dict(provenance))

    def change_provenance(self, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Replace the provenance by what `change` makes of it, in one transaction: nothing that another writer notes is lost."""
        with self._database.writing() as connection:
            with damage_told(self.name):
                present = dict(facts.read(connection, "provenance") or {})
            facts.write(connection, "provenance", dict(change(present)))

    def collection(self) -> dict[str, Any] | None:
        """Return the plan by which a whole space was measured here; None if none was begun."""
        values = self._fact("collection")
        return None if values is None else dict(values)

    def set_collection(self, collection: Mapping[str, Any]) -> None:
        """Replace the plan's description by a JSON-serialisable mapping."""
        self._set_fact("collection", dict(collection))

    def _fact(self, name: str) -> Mapping[str, Any] | None:
        with self._reading() as connection:
            value = facts.read(connection, name)
            if not isinstance(value, dict | None):
                raise TypeError(f"{name} is {value!r:.50}")
            return value

    def _set_fact(self, name: str, value: Mapping[str, Any]) -> None:
        if self._fact(name) != value:
            with self._database.writing() as connection:
                facts.write(connection, name, value)

    # --- visits -----------------------------------------------------------------------------------------------------

    def add_subject(self, key: str, kind: str, spec: Mapping[str, Any], role: str = "") -> None:
        """Declare something to be measured; declaring it again is fine."""
        self.add_subjects([Subject(key, kind, role, spec)])

    def add_subjects(self, declared: Iterable[Subject]) -> None:
        """Declare what is to be measured, all in one transaction.

        Raises:
            StoreError: a key stands for something else already.
        """
        with self._database.writing() as connection:
            subjects.insert(connection, declared, self.name)

    def subjects(self) -> list[Subject]:
        """Return everything declared, in order of declaration."""
        with self._reading() as connection:
            return list(subjects.read(connection).values())

    def add_visit(self, plan_id: str, mode: str, round: int, subjects: Sequence[str], samples_ns: Samples, states: tuple[State, State] = ({}, {}),
                  worker: str = "", discarded: str | None = None, repeats: int = 1) -> None:  # fmt: skip
        """Commit one visit: its subjects' keys in order of execution and their samples, shape (n_subjects, n_cycles).

        Each sample is the time of a call in which the subject ran `repeats` times. A visit `discarded` for a reason is kept,
        but counts neither as finished nor in `samples`.

        Raises:
            StoreError: the visit is there already, a subject was not declared, or the samples are no latencies.
            StoreFullError: the disk is full.
        """
        values = visits.values_of(plan_id, mode, round, len(subjects), samples_ns, states, worker, discarded, repeats)
        try:
            with self._database.writing() as connection:
                visits.insert(connection, [(values, subjects)], self.name)
        except IntegrityError:
            raise StoreError(f"visit {plan_id!r} is in {self.name} already; collectors that share a store claim visits before making them") from None

    def copy_visits(self, made: Iterable[tuple[VisitRecord, Sequence[str], Samples]]) -> None:
        """Commit visits that another store holds, all in one transaction; only their numbers are new.

        Raises:
            StoreError: a visit is there already, or a subject was not declared.
            StoreFullError: the disk is full.
        """
        rows = [
            (
                visits.values_of(v.plan_id, v.mode, v.round, len(keys), samples, (v.state_before, v.state_after), v.worker, v.discarded, v.repeats),
                keys,
            )
            for v, keys, samples in made
        ]
        try:
            with self._database.writing() as connection:
                visits.insert(connection, rows, self.name)
        except IntegrityError:
            raise StoreError(f"a visit to copy is in {self.name} already; leave out what it holds") from None

    def finished_plans(self) -> set[str]:
        """Return the plan ids of all visits that count."""
        with self._reading() as connection:
            return visits.finished(connection)

    def samples(self, kind: str, mode: str | None = None, include_discarded: bool = False) -> Iterator[tuple[Subject, VisitRecord, Samples]]:
        """Yield every subject of every visit in order of time, with its samples of that visit, shape (n_cycles,)."""
        with self._reading() as connection:
            rows, sequences = visits.read(connection, kind, mode, include_discarded)
        for row in rows:
            with damage_told(self.name):
                visit, samples = visits.decoded(row)
                of_visit = list(zip(sequences[row.sequence_id], samples, strict=True))
            for subject, own_samples in of_visit:
                if subject.kind == kind:
                    yield subject, visit, own_samples

    # --- claims -----------------------------------------------------------------------------------------------------

    def claim(self, plan_ids: Iterable[str], collector: str, now_s: float, lease_s: float) -> set[str]:
        """Return which of these visits the collector may make within the lease: those neither made nor another collector's."""
        with self._database.writing() as connection:
            return claims.claim(connection, plan_ids, collector, now_s, lease_s)

    def release(self, collector: str) -> None:
        """Give back what the collector claimed and has not made; where that is nothing, the store stays as it is, bit for bit."""
        with self._database.reading() as connection:
            holds = claims.holds(connection, collector)
        if holds:
            with self._database.writing() as connection:
                claims.release(connection, collector)

    # --- findings ---------------------------------------------------------------------------------------------------

    def set_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Replace the outcomes of the same subjects and modes."""
        with self._database.writing() as connection:
            findings.write_outcomes(connection, outcomes, self.name)

    def outcomes(self) -> list[Outcome]:
        """Return all outcomes, in order of their subjects' declaration."""
        with self._reading() as connection:
            return findings.read_outcomes(connection)

    def set_warnings(self, warnings: Sequence[StoredWarning]) -> None:
        """Replace all warnings."""
        with self._database.writing() as connection:
            findings.write_warnings(connection, warnings)

    def warnings(self) -> list[StoredWarning]:
        """Return all warnings as they were given."""
        with self._reading() as connection:
            return findings.read_warnings(connection)

    def set_figures(self, figures: Sequence[Figure]) -> None:
        """Replace all figures without samples: interpolated and imported ones."""
        with self._database.writing() as connection:
            findings.write_figures(connection, figures, self.name)

    def set_interpolations(self, interpolations: Sequence[Figure]) -> None:
        """Replace the interpolated figures; for what has a figure of another origin, that one stays."""
        with self._database.writing() as connection:
            with damage_told(self.name):
                kept = {(figure.key, figure.mode): figure for figure in findings.read_figures(connection) if figure.origin != "interpolated"}
            fresh = [figure for figure in interpolations if (figure.key, figure.mode) not in kept]
            findings.write_figures(connection, [*kept.values(), *fresh], self.name)

    def figures(self) -> list[Figure]:
        """Return all figures without samples, in order of their subjects' declaration."""
        with self._reading() as connection:
            return findings.read_figures(connection)

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
            with self._database.writing() as connection:
                accuracies.insert(connection, protocol, checked)
        except IntegrityError:
            raise StoreError(
                f"an architecture given to {self.name} was evaluated under this protocol already; leave out what `accuracies` returns"
            ) from None

    def accuracies(self, protocol: AccuracyProtocol | None = None) -> list[AccuracyRow]:
        """Return the evaluated architectures in order of evaluation: of one protocol, or of all."""
        with self._reading() as connection:
            return accuracies.read(connection, protocol)


def _condition(connection: Connection) -> Condition | None:
    values = facts.read(connection, "condition")
    return None if values is None else Condition.from_dict(values)
