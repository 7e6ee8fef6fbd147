"""The drift of a device during its measurements: how much slower everything ran in one worker process than in others.

Memory that others on the machine use slows a network that streams its weights by several per cent, and a small block that
stays in the cache not at all. So each mode (alone, in chains, whole networks) is judged by itself, by all that was
visited in it: Tukey's median polish (Exploratory Data Analysis, 1977, chapter 11) of the low percentiles of each subject
in each worker finds the subjects' figures and the workers' levels together; then again with low quartiles in place of
the subjects' medians, and without what is far from them, so that slow states do not count. Samples are divided by their
worker's level when figures are made of them; what is stored stays raw.

A worker much slower than others met another speed of the machine, not drift: the low percentile of `luts.estimates`
looks past it, a division would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from luts.estimates import LATENCY_PERCENTILE, latency_ms

if TYPE_CHECKING:
    from luts.records import Subject, VisitRecord

Samples = np.ndarray[Any, Any]
Numbers = np.ndarray[Any, np.dtype[np.float64]]

FEWEST_SUBJECTS = 16  # that a worker shares with others: a level from fewer would be their own noise
ANOTHER_SPEED = 1.15
TOLERATED = 0.02  # of the anchor from round to round: it is known no better
FEWEST_ANCHOR_VISITS = 5  # in a round, to say anything
STEPS, CLOSE_ENOUGH = 30, 1e-5  # of the polish
SAME_STATE = 0.06  # what is further from what a subject took in other workers met the device in another state


@dataclass(frozen=True)
class Drift:
    """Worker process → its level in one mode: how much slower it was than the fastest, at least 1. Workers that cannot be judged are left out.

    Samples are put at level `reference`, where their low percentile lies as found: so figures compare with those of other
    sessions, and with those of a few subjects, which no drift can be told from. What the least disturbed worker measured
    is a matter of luck.
    """

    levels: Mapping[str, float] = field(default_factory=dict)
    reference: float = 1.0

    @classmethod
    def of_visits(cls, visits: Iterable[tuple[str, str, Samples]], anchor: Mapping[str, float] = MappingProxyType({})) -> Drift:
        """Return the drift that visits of one mode show: (subject, worker, nanoseconds a run) of each.

        `anchor`: worker → how much slower the whole device was by then (`anchor_factors`), which is no part of a figure.
        """
        found: dict[tuple[str, str], list[Samples]] = {}
        for subject, worker, run_ns in visits:
            found.setdefault((subject, worker), []).append(run_ns)
        rows = {subject: row for row, subject in enumerate(dict.fromkeys(subject for subject, _ in found))}
        workers = list(dict.fromkeys(worker for _, worker in found))
        columns = {worker: column for column, worker in enumerate(workers)}
        lows = np.full((len(rows), len(workers)), np.nan)
        for (subject, worker), runs in found.items():
            lows[rows[subject], columns[worker]] = np.log(_low(np.concatenate(runs)))
        judged = (~np.isnan(lows[(~np.isnan(lows)).sum(axis=1) > 1])).sum(axis=0) >= FEWEST_SUBJECTS
        if judged.sum() < 2:
            return cls()
        levels = _polished(lows[:, judged], _polished(lows[:, judged], np.zeros(judged.sum()), 0.5, np.inf), 0.25, SAME_STATE)
        relative = np.exp(levels - levels.min())
        drift = cls(dict(zip((worker for worker, own in zip(workers, judged, strict=True) if own), relative.tolist(), strict=True)))
        return replace(drift, reference=_as_found(found, drift, anchor))

    @property
    def largest(self) -> float:
        """How much slower than the fastest worker the slowest was, as a share: 0.03 is 3 %."""
        return max(self.levels.values(), default=1.0) - 1

    def factor(self, worker: str) -> float:
        """Return what samples of this worker process are divided by."""
        level = self.levels.get(worker)
        return 1.0 if level is None or level > ANOTHER_SPEED else level / self.reference


def undrifted(
    samples: Iterable[tuple[Subject, VisitRecord, Samples]], anchor: Iterable[tuple[Subject, VisitRecord, Samples]] = ()
) -> Iterator[tuple[Subject, VisitRecord, Samples]]:
    """Yield a store's samples of one mode, corrected for the drift that they show themselves; `anchor` are the anchor's samples."""
    kept = list(samples)
    factors = anchor_factors([(visit.round, visit.worker, own / visit.repeats) for _, visit, own in anchor])
    drift = Drift.of_visits(((subject.key, visit.worker, own / visit.repeats) for subject, visit, own in kept), factors)
    for subject, visit, own in kept:
        factor = drift.factor(visit.worker)
        yield subject, visit, own if factor == 1.0 else own / factor


def _low(runs: Samples) -> float:
    return float(np.partition(runs, place := (len(runs) - 1) * LATENCY_PERCENTILE // 100)[place])


def anchor_levels(visits: Iterable[tuple[int, str, Samples]]) -> dict[int, float]:
    """Return round → how long the anchor took over what it took in the fastest round, from (round, worker, nanoseconds a run) of its visits.

    Rounds with few visits of it say nothing.
    """
    rounds: dict[int, list[Samples]] = {}
    for number, _, runs in visits:
        rounds.setdefault(number, []).append(runs)
    lows = {number: latency_ms(found) for number, found in sorted(rounds.items()) if len(found) >= FEWEST_ANCHOR_VISITS}
    return {number: low / min(lows.values()) for number, low in lows.items()}


def anchor_factors(visits: Sequence[tuple[int, str, Samples]]) -> dict[str, float]:
    """Return worker → its round's anchor level, where the levels are further apart than they are known and no other speed was met."""
    levels = {number: level for number, level in anchor_levels(visits).items() if level <= ANOTHER_SPEED}
    if max(levels.values(), default=1.0) <= 1 + TOLERATED:
        return {}
    return {worker: levels[number] for number, worker, _ in visits if number in levels}


def _as_found(runs: Mapping[tuple[str, str], Sequence[Samples]], drift: Drift, anchor: Mapping[str, float]) -> float:
    """Return the median over subjects of their low percentile as found over that with all workers at the lowest level."""
    subjects: dict[str, list[tuple[Samples, str]]] = {}
    for (subject, worker), own in runs.items():
        subjects.setdefault(subject, []).append((np.concatenate(own), worker))
    found = (np.concatenate([samples / anchor.get(worker, 1.0) for samples, worker in own]) for own in subjects.values())
    lowest = (np.concatenate([samples / drift.factor(worker) for samples, worker in own]) for own in subjects.values())
    return float(np.median([_low(one) / _low(other) for one, other in zip(found, lowest, strict=True)]))


def _polished(lows: Numbers, levels: Numbers, share: float, window: float) -> Numbers:
    """Return the levels (n_workers,) of which lows (n_subjects, n_workers; NaN where not visited) are the sum with a figure a subject.

    A subject's figure is this quantile of what its workers, put right, say; a worker's level is the median of what its
    subjects say inside the window.
    """
    for _ in range(STEPS):
        beyond = lows - _quantiles(lows - levels, share, axis=1)[:, None]
        before, levels = levels, _quantiles(np.where(np.abs(beyond - levels) <= window, beyond, np.nan), 0.5, axis=0)
        if np.abs(levels - before).max() < CLOSE_ENOUGH:
            break
    return levels


def _quantiles(values: Numbers, share: float, axis: int) -> Numbers:
    """Return a quantile of the values that are no NaN, between two on the straight line between them; zero where all are."""
    ascending = np.sort(values, axis=axis)  # NaN go last
    places = share * np.maximum((~np.isnan(values)).sum(axis=axis, keepdims=True) - 1, 0)
    below, above = (np.take_along_axis(ascending, round_(places).astype(int), axis) for round_ in (np.floor, np.ceil))
    return np.asarray(np.nan_to_num(below + (above - below) * (places % 1)).squeeze(axis))
