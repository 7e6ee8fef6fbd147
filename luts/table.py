"""Latency tables: one figure a block under one condition, with its origin and its trust. Latencies are milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from luts.condition import Condition
from luts.drift import undrifted
from luts.errors import damage_told
from luts.estimates import NANOSECONDS_A_MILLISECOND, estimate, latency_ms
from luts.records import Figure, Subject, VisitRecord
from luts.store import MeasurementStore, StoreError
from luts.visits import Samples
from supernets.blocks import BlockSpec
from supernets.space import Architecture

Runs = np.ndarray[Any, np.dtype[np.float64]]

__all__ = [
    "MODES", "ORIGINS", "Condition", "Entry", "LatencyTable", "MissingBlockError", "NetworkMeasurement", "network_measurements", "visits_by_subject",
]  # fmt: skip

# chain: run between its neighbours of a network, with the caches as a network leaves them; alone: run again and again.
MODES = ("chain", "alone")
ORIGINS = ("measured", "interpolated", "predicted", "simulated", "imported")  # imported: of others' tables, which do not say
NAMED_BLOCKS = 3  # how many missing blocks an error names


class MissingBlockError(KeyError):
    """Blocks that a table has no figure for: `blocks`, each once."""

    def __init__(self, text: str, blocks: Sequence[BlockSpec]) -> None:
        super().__init__(text)
        self.blocks = tuple(blocks)

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Entry:
    """A block's latency: where the figure comes from, its relative standard error (None if unknown), and what it rests on.

    Raises:
        ValueError: an unknown origin, or a latency that is not positive and finite.
    """

    block: BlockSpec
    latency_ms: float
    origin: str
    relative_spread: float | None
    visits: int
    samples: int

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ValueError(f"origin of block {self.block.key} is {self.origin!r}; expected one of {', '.join(ORIGINS)}")
        if not 0 < self.latency_ms < np.inf:
            raise ValueError(f"latency_ms of block {self.block.key} is {self.latency_ms}; expected more than 0")


@dataclass(frozen=True)
class NetworkMeasurement:
    """The measured latency of a whole network, and what it was measured for (`role`).

    `halves_ms` are the estimates from even and odd worker processes alone, NaN with fewer than two visits.
    """

    architecture: Architecture | None
    blocks: tuple[BlockSpec, ...]
    latency_ms: float
    relative_spread: float | None
    visits: int
    samples: int
    role: str
    halves_ms: tuple[float, float]
    name: str = ""
    key: str = ""


class LatencyTable:
    """Entries by block key, all of one condition and mode, with the networks measured beside them.

    `alone_ms` is what a table of mode chain knows of the same blocks run alone: block key → latency, empty where that was not measured.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(self, condition: Condition, mode: str, entries: Iterable[Entry], networks: Iterable[NetworkMeasurement] = (),
                 source: str = "this table", space: str | None = None, alone_ms: Mapping[str, float] = MappingProxyType({})) -> None:  # fmt: skip
        if mode not in MODES:
            raise ValueError(f"mode of a latency table is {mode!r}; expected one of {', '.join(MODES)}")
        self.condition = condition
        self.mode = mode
        self.entries: Mapping[str, Entry] = MappingProxyType({entry.block.key: entry for entry in entries})
        self.source = source
        self.space = space
        self.alone_ms = alone_ms
        self._networks = tuple(networks)

    @classmethod
    def open(cls, path: str | Path, mode: str | None = None) -> LatencyTable:
        """Return the table in a file of measurements, which stays as it is; without a mode in chains, or alone where nothing is known in chains.

        Raises:
            ValueError: an unknown mode.
            FileNotFoundError: there is no such file.
            StoreError: it is a file of another kind or damaged, or nothing was measured into it yet.
        """
        with MeasurementStore(path, read_only=True) as store:
            return cls.of_store(store, mode)

    @classmethod
    def of_store(cls, store: MeasurementStore, mode: str | None = None) -> LatencyTable:
        """Return the table of an open store, as far as it has been measured; what was measured here goes before other figures. See `open`.

        Raises:
            ValueError: an unknown mode.
            StoreError: nothing was measured into it yet, or it is damaged.
        """
        if mode not in (None, *MODES):
            raise ValueError(f"mode of a latency table is {mode!r}; expected one of {', '.join(MODES)}")
        condition = store.condition()
        if condition is None:
            raise StoreError(f"{store.name} holds no latencies yet; measure them with `profiler collect`")
        with damage_told(store.name):
            specs = {subject.key: subject for subject in store.subjects()}
            figures = store.figures()
            anchor = list(store.samples("block", "anchor"))
            samples = {known: list(undrifted(store.samples("block", known), anchor)) for known in MODES if mode in (None, "chain", known)}
            if mode is None:
                mode = next((known for known in MODES if samples[known] or any(figure.mode == known for figure in figures)), MODES[0])
            entries = [_stated(specs[figure.key], figure) for figure in figures if figure.mode == mode]
            entries += [_entry(subject, visits, workers, condition.origin) for subject, visits, workers in visits_by_subject(samples[mode])]
            alone_ms = {figure.key: figure.latency_ns / NANOSECONDS_A_MILLISECOND for figure in figures if figure.mode == "alone"}
            for subject, visits, _ in visits_by_subject(samples["alone"]) if mode == "chain" else ():
                alone_ms[subject.key] = latency_ms(visits)
        space = (store.collection() or {}).get("space")
        return cls(condition, mode, entries, network_measurements(store), store.name, space, alone_ms if mode == "chain" else {})

    def entry(self, block: BlockSpec) -> Entry:
        """Return the block's entry.

        Raises:
            MissingBlockError: the table has none.
        """
        found = self.entries.get(block.key)
        if found is None:
            raise self._missing_error([block], 1)
        return found

    def latency_ms(self, blocks: Iterable[BlockSpec]) -> float:
        """Return the sum over the blocks; never a partial one.

        Raises:
            MissingBlockError: the table lacks some of them.
        """
        blocks = list(blocks)
        missing = self.missing(blocks)
        if missing:
            raise self._missing_error(missing, len(set(blocks)))
        return float(sum(self.entries[block.key].latency_ms for block in blocks))

    def missing(self, blocks: Iterable[BlockSpec]) -> list[BlockSpec]:
        """Return the blocks that the table has no entry for, each once."""
        return list(dict.fromkeys(block for block in blocks if block.key not in self.entries))

    def networks(self, role: str | None = None) -> list[NetworkMeasurement]:
        """Return the whole networks measured under the same condition: of one role, or all."""
        return [network for network in self._networks if role in (None, network.role)]

    def to_pandas(self) -> Any:
        """Return the entries as a pandas DataFrame, one row a block, each with the condition: the columns of the CSV format.

        Raises:
            ImportError: pandas is not installed.
        """
        from luts.formats.rows import COLUMNS, rows

        try:
            import pandas
        except ImportError as error:
            raise ImportError("data frames need the package 'pandas'; install it with pip install 'elastic-latency[tables]'") from error
        return pandas.DataFrame(rows(self), columns=COLUMNS)

    def _missing_error(self, missing: Sequence[BlockSpec], of: int) -> MissingBlockError:
        first = ", ".join(block.key for block in missing[:NAMED_BLOCKS])
        more = ", ..." if len(missing) > NAMED_BLOCKS else ""
        known = "" if self.space is None else f", which was measured for space {self.space}"
        command = f"profiler collect --space SPACE --device {self.condition.device} --out FILE"
        return MissingBlockError(
            f"{len(missing)} of {of} different blocks are not in {self.source} (mode {self.mode}{known}): {first}{more}; "
            f"measure the space they belong to with: {command}",
            missing,
        )


def network_measurements(store: MeasurementStore) -> list[NetworkMeasurement]:
    """Return the whole networks measured into a store, in order of their first visit.

    Raises:
        StoreError: the store is damaged.
    """
    with damage_told(store.name):
        specs = {subject.key: subject for subject in store.subjects()}
        networks = {figure.key: _stated_network(specs[figure.key], figure) for figure in store.figures() if figure.mode == "network"}
        for subject, visits, workers in visits_by_subject(undrifted(store.samples("network"))):
            networks[subject.key] = _network(subject, visits, workers)
        return list(networks.values())


def visits_by_subject(samples: Iterable[tuple[Subject, VisitRecord, Samples]]) -> Iterator[tuple[Subject, list[Runs], list[str]]]:
    """Yield each subject with its nanoseconds a run, and the worker, visit by visit; places of one visit where it stood more than once are one."""
    subjects: dict[str, Subject] = {}
    visits: dict[str, dict[int, list[Runs]]] = {}
    workers: dict[int, str] = {}
    for subject, visit, own_samples in samples:
        subjects[subject.key] = subject
        workers[visit.number] = visit.worker
        visits.setdefault(subject.key, {}).setdefault(visit.number, []).append(own_samples / visit.repeats)

    for key, by_visit in visits.items():
        runs = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in by_visit.values()]
        yield subjects[key], runs, [workers[number] for number in by_visit]


def _stated(subject: Subject, figure: Figure) -> Entry:
    latency_ms = figure.latency_ns / NANOSECONDS_A_MILLISECOND
    return Entry(BlockSpec.from_dict(dict(subject.spec)), latency_ms, figure.origin, figure.relative_error, figure.visits, figure.samples)


def _entry(subject: Subject, visits: Sequence[Runs], workers: Sequence[str], origin: str) -> Entry:
    found = estimate(visits, workers)
    return Entry(BlockSpec.from_dict(dict(subject.spec)), found.latency_ms, origin, found.relative_spread, found.visits, found.samples)


def _network(subject: Subject, visits: Sequence[Runs], workers: Sequence[str]) -> NetworkMeasurement:
    found, spec = estimate(visits, workers), _network_spec(subject)
    return NetworkMeasurement(
        latency_ms=found.latency_ms, relative_spread=found.relative_spread, visits=found.visits, samples=found.samples,
        halves_ms=found.halves_ms, role=subject.role, key=subject.key, **spec,
    )  # fmt: skip


def _stated_network(subject: Subject, figure: Figure) -> NetworkMeasurement:
    first, second = (np.nan if half is None else float(half) for half in figure.source["halves_ms"])
    return NetworkMeasurement(
        latency_ms=figure.latency_ns / NANOSECONDS_A_MILLISECOND, relative_spread=figure.relative_error, visits=figure.visits,
        samples=figure.samples, halves_ms=(first, second), role=subject.role, key=subject.key, **_network_spec(subject),
    )  # fmt: skip


def _network_spec(subject: Subject) -> dict[str, Any]:
    architecture = subject.spec["architecture"]
    return {
        "architecture": None if architecture is None else Architecture.from_dict(architecture),
        "blocks": tuple(BlockSpec.from_dict(block) for block in subject.spec["blocks"]),
        "name": subject.spec["name"],
    }
