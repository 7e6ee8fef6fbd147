"""Whether a session's figures can be trusted: how well they repeat, and how much of the session was slow.

Latencies come from a low percentile (`luts.estimates`), which looks past slow states of the machine; the slow share says
how much there was to look past.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luts.estimates import LATENCY_PERCENTILE, estimate
from luts.store import MeasurementStore
from luts.table import visits_by_subject

Figures = np.ndarray[Any, np.dtype[np.float64]]

SLOW_FACTOR = 1.15  # a visit is slow if it took this much longer than the fast ones of its kind, which stay within a few percent
UNSTEADY_SPREAD = 0.05  # a relative standard error above this makes a figure doubtful: the aim is predictions within 5 %


@dataclass(frozen=True)
class SessionQuality:
    """Figures of one kind of subject and one mode; shares are 0 to 1.

    `repeatability` is the median over subjects of how far the estimates from even and odd visits lie apart, relative to
    their mean; `worst_repeatability` the 95th percentile. None where no subject has two visits.
    """

    kind: str
    mode: str
    subjects: int
    visits: int
    fewest_visits: int
    repeatability: float | None
    worst_repeatability: float | None
    unsteady_subjects: int
    slow_share: float
    discarded_visits: int


def session_quality(store: MeasurementStore, kind: str, mode: str) -> SessionQuality | None:
    """Return the quality of a store's measurements of this kind (block, network) and mode; None where there are none."""
    estimates = {subject.key: estimate(visits) for subject, visits in visits_by_subject(store.samples(kind, mode))}
    if not estimates:
        return None
    halves = [relative_half_difference(found.halves_ms) for found in estimates.values() if found.visits > 1]
    slowness = _slowness(store, kind, mode)
    discarded = {visit.number for _, visit, _ in store.samples(kind, mode, include_discarded=True) if visit.discarded is not None}
    return SessionQuality(
        kind, mode, len(estimates), len(slowness), min(found.visits for found in estimates.values()),
        float(np.median(halves)) if halves else None, float(np.percentile(halves, 95)) if halves else None,
        sum(found.relative_spread is not None and found.relative_spread > UNSTEADY_SPREAD for found in estimates.values()),
        float(np.mean(slowness > SLOW_FACTOR)), len(discarded),
    )  # fmt: skip


def _slowness(store: MeasurementStore, kind: str, mode: str) -> Figures:
    """Return how long each visit took relative to the fast ones among the visits of the same subjects, shape (n_visits,)."""
    taken_ns: dict[int, float] = {}
    subjects: dict[int, list[str]] = {}
    for subject, visit, samples in store.samples(kind, mode):
        taken_ns[visit.number] = taken_ns.get(visit.number, 0.0) + float(np.median(samples))
        subjects.setdefault(visit.number, []).append(subject.key)
    alike: dict[tuple[str, ...], list[float]] = {}
    for number, keys in subjects.items():
        alike.setdefault(tuple(keys), []).append(taken_ns[number])
    return np.concatenate([np.array(visits_ns) / np.percentile(visits_ns, LATENCY_PERCENTILE) for visits_ns in alike.values()])


def relative_half_difference(halves_ms: tuple[float, float]) -> float:
    """Return how far two estimates of one latency lie apart, relative to their mean."""
    even, odd = halves_ms
    return abs(even - odd) / ((even + odd) / 2)
