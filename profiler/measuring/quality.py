"""Whether a session's figures can be trusted: how well they repeat, and how much of the session was slow.

Latencies come from a low percentile (`luts.estimates`), which looks past slow states of the machine; the slow share says
how much there was to look past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luts.estimates import NANOSECONDS_A_MILLISECOND, Estimate, Samples, estimate
from luts.store import MeasurementStore
from luts.table import visits_by_subject

SLOW_FACTOR = 1.15  # a visit is slow if its median is this much above the estimate; fast visits stay within a few percent
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
    subjects = [visits for _, visits in visits_by_subject(store.samples(kind, mode))]
    if not subjects:
        return None
    estimates = [estimate(visits) for visits in subjects]
    halves = [relative_half_difference(e.halves_ms) for e in estimates if e.visits > 1]
    ratios = np.concatenate([_slowness(visits, e) for visits, e in zip(subjects, estimates, strict=True)])
    records = {visit.number: visit for _, visit, _ in store.samples(kind, mode, include_discarded=True)}
    discarded = sum(visit.discarded is not None for visit in records.values())
    return SessionQuality(
        kind, mode, len(subjects), len(records) - discarded, min(e.visits for e in estimates),
        float(np.median(halves)) if halves else None, float(np.percentile(halves, 95)) if halves else None,
        sum(e.relative_spread is not None and e.relative_spread > UNSTEADY_SPREAD for e in estimates),
        float(np.mean(ratios > SLOW_FACTOR)), discarded,
    )  # fmt: skip


def relative_half_difference(halves_ms: tuple[float, float]) -> float:
    """Return how far two estimates of one latency lie apart, relative to their mean."""
    even, odd = halves_ms
    return abs(even - odd) / ((even + odd) / 2)


def _slowness(visits: Sequence[Samples], found: Estimate) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each visit's median relative to the estimate."""
    medians_ms = np.array([np.median(visit) for visit in visits]) / NANOSECONDS_A_MILLISECOND
    ratios: np.ndarray[Any, np.dtype[np.float64]] = medians_ms / found.latency_ms
    return ratios
