"""What a store's visits say, read once: samples by subject, estimates, drift, time spent. Everything is told of the visits of earlier rounds.

A subject is known by its mode and key; samples are float nanoseconds a run. What is returned follows from the visits
inside, corrected for the drift that they show together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from luts.drift import Drift, anchor_factors, anchor_levels
from luts.estimates import Estimate, estimate
from luts.store import MeasurementStore
from profiler.measuring.plan import ANCHOR, NETWORK

Runs: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
SubjectId: TypeAlias = tuple[str, str]  # mode, key

INTERVAL = 1.96  # standard errors on each side that hold 95 % of a normal distribution
LONGEST_GAP_S = 120.0  # between the ends of two visits; what is longer was a break, or a clock set forward
ALL_ROUNDS = 1 << 62


@dataclass(frozen=True)
class SeenVisit:
    """A visit as the statistics need it; `runs_ns` by subject, (n_runs,) each, those of a discarded one included."""

    plan_id: str
    mode: str
    round: int
    worker: str
    repeats: int
    discarded: str | None
    state_before: Mapping[str, Any]
    state_after: Mapping[str, Any]
    subjects: tuple[str, ...]
    runs_ns: Mapping[str, Runs]

    @classmethod
    def of_samples(cls, plan_id: str, mode: str, round: int, worker: str, repeats: int, discarded: str | None,
                   states: tuple[Mapping[str, Any], Mapping[str, Any]], subjects: Sequence[str],
                   samples: Iterable[np.ndarray[Any, Any]]) -> SeenVisit:  # fmt: skip
        """Return the visit with the samples (one row a subject) of equal subjects joined."""
        rows: dict[str, list[Runs]] = {}
        for key, row in zip(subjects, samples, strict=True):
            rows.setdefault(key, []).append(row / repeats)
        runs_ns = {key: found[0] if len(found) == 1 else np.concatenate(found) for key, found in rows.items()}
        return cls(plan_id, mode, round, worker, repeats, discarded, *states, tuple(subjects), runs_ns)

    @property
    def seconds(self) -> float:
        """How long the visit took by the device's clock; 0 where that was set back meanwhile."""
        return max(0, _moment_ns(self.state_after) - _moment_ns(self.state_before)) / 1e9


@dataclass
class Evidence:
    """All visits of a store in order of time; `add` those made since."""

    visits: list[SeenVisit] = field(default_factory=list)
    _estimates: dict[SubjectId, tuple[object, Estimate]] = field(default_factory=dict)
    _drifts: dict[tuple[str, int], tuple[int, Drift]] = field(default_factory=dict)
    _by_subject: dict[SubjectId, list[SeenVisit]] = field(default_factory=dict)

    @classmethod
    def of_store(cls, store: MeasurementStore) -> Evidence:
        """Return what is in a store."""
        evidence = cls()
        evidence.read(store)
        return evidence

    def read(self, store: MeasurementStore) -> None:
        """Take what is in a store in place of what was known."""
        found: dict[int, SeenVisit] = {}
        for kind in ("block", "network"):
            rows: dict[int, tuple[Any, list[str], list[Any]]] = {}
            for subject, visit, samples in store.samples(kind, include_discarded=True):
                _, keys, parts = rows.setdefault(visit.number, (visit, [], []))
                keys.append(subject.key)
                parts.append(samples)
            for number, (visit, keys, parts) in rows.items():
                found[number] = SeenVisit.of_samples(visit.plan_id, visit.mode, visit.round, visit.worker, visit.repeats, visit.discarded,
                                                     (visit.state_before, visit.state_after), keys, parts)  # fmt: skip
        self.visits.clear()
        self._by_subject.clear()
        self._estimates.clear()
        self._drifts.clear()
        for number in sorted(found):
            self.add(found[number])

    def add(self, visit: SeenVisit) -> None:
        """Take in a visit that was stored just now."""
        self.visits.append(visit)
        if visit.discarded is None:
            for key in visit.runs_ns:
                self._by_subject.setdefault((visit.mode, key), []).append(visit)

    def subjects(self, mode: str) -> list[SubjectId]:
        """Return the subjects visited in this mode, in order of their first visit."""
        return [subject for subject in self._by_subject if subject[0] == mode]

    def visits_of(self, subject: SubjectId, before_round: int = ALL_ROUNDS) -> list[SeenVisit]:
        """Return the visits of a subject that count."""
        return [visit for visit in self._by_subject.get(subject, ()) if visit.round < before_round]

    def drift(self, mode: str, before_round: int = ALL_ROUNDS) -> Drift:
        """Return the drift of the workers in this mode."""
        known = self._drifts.get((mode, before_round))
        if known is None or known[0] != len(self.visits):
            visits = [(subject[1], visit) for subject in self.subjects(mode) for visit in self.visits_of(subject, before_round)]
            anchor = {} if mode == NETWORK else anchor_factors(self._anchor_runs(before_round))
            known = len(self.visits), Drift.of_visits(((key, visit.worker, visit.runs_ns[key]) for key, visit in visits), anchor)
            self._drifts[mode, before_round] = known
        return known[1]

    def anchor_levels(self) -> dict[int, float]:
        """Return round → how long the anchor took over what it took in the fastest round; see `luts.drift.anchor_levels`."""
        return anchor_levels(self._anchor_runs(ALL_ROUNDS))

    def _anchor_runs(self, before_round: int) -> list[tuple[int, str, Runs]]:
        visits = [visit for subject in self.subjects(ANCHOR) for visit in self.visits_of(subject, before_round)]
        return [(visit.round, visit.worker, runs) for visit in visits for runs in visit.runs_ns.values()]

    def runs_of(self, subject: SubjectId, before_round: int = ALL_ROUNDS) -> list[Runs]:
        """Return the samples of a subject visit by visit, corrected for drift."""
        drift = self.drift(subject[0], before_round)
        return [visit.runs_ns[subject[1]] / drift.factor(visit.worker) for visit in self.visits_of(subject, before_round)]

    def estimate(self, subject: SubjectId, before_round: int = ALL_ROUNDS) -> Estimate | None:
        """Return the estimate of a subject; None without a visit."""
        visits = self.visits_of(subject, before_round)
        if not visits:
            return None
        basis = (len(visits), visits[-1].plan_id, self.drift(subject[0], before_round))
        known = self._estimates.get(subject)
        if known is None or known[0] != basis:
            known = basis, estimate(self.runs_of(subject, before_round), [visit.worker for visit in visits])
            self._estimates[subject] = known
        return known[1]

    def interval(self, subject: SubjectId, before_round: int = ALL_ROUNDS) -> float:
        """Return the half-width of the estimate's 95 % interval, relative to it; infinite with fewer than two visits."""
        found = self.estimate(subject, before_round)
        return float("inf") if found is None or found.relative_spread is None else INTERVAL * found.relative_spread

    def seconds(self, before_round: int = ALL_ROUNDS) -> float:
        """Return the time that all sessions together spent on visits and on what lies between them, by the device's clock."""
        spent_s, last_end_ns = 0.0, None
        for visit in self.visits:
            if visit.round < before_round:
                end_ns = _moment_ns(visit.state_after)
                gap_s = visit.seconds if last_end_ns is None else (end_ns - last_end_ns) / 1e9
                spent_s += gap_s if 0 <= gap_s <= LONGEST_GAP_S else visit.seconds
                last_end_ns = end_ns
        return spent_s


def _moment_ns(state: Mapping[str, Any]) -> int:
    return int(state.get("unix_time_ns") or 0)
