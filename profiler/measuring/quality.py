"""How good a session's figures of one mode are: how well they repeat, and how much of the session was slow.

Latencies come from a low percentile (`luts.estimates`), which looks past slow states of the machine; the slow share says
how much there was to look past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luts.estimates import LATENCY_PERCENTILE
from profiler.measuring.evidence import Evidence, SeenVisit

Figures = np.ndarray[Any, np.dtype[np.float64]]

SLOW_FACTOR = 1.15  # a visit is slow if it took this much longer than the fast ones of its kind, which stay within a few percent


@dataclass(frozen=True)
class SessionQuality:
    """Figures of one mode; shares are 0 to 1.

    `repeatability` is the median over subjects of how far the estimates from even and odd worker processes lie apart, relative to
    their mean; `worst_repeatability` the 95th percentile. None where no subject has two visits.
    """

    mode: str
    subjects: int
    visits: int
    fewest_visits: int
    repeatability: float | None
    worst_repeatability: float | None
    slow_share: float


def session_quality(evidence: Evidence, mode: str) -> SessionQuality | None:
    """Return the quality of the measurements in this mode; None where there are none."""
    estimates = [found for subject in evidence.subjects(mode) if (found := evidence.estimate(subject)) is not None]
    if not estimates:
        return None
    halves = [relative_half_difference(found.halves_ms) for found in estimates if found.visits > 1]
    slow = slowness(evidence, mode)
    return SessionQuality(
        mode, len(estimates), len(slow), min(found.visits for found in estimates), float(np.median(halves)) if halves else None,
        float(np.percentile(halves, 95)) if halves else None, float(np.mean(slow > SLOW_FACTOR)),
    )  # fmt: skip


def slowness(evidence: Evidence, mode: str) -> Figures:
    """Return how long each visit took relative to the fast ones among the visits of the same subjects, shape (n_visits,)."""
    alike: dict[tuple[str, ...], list[SeenVisit]] = {}
    for visit in evidence.visits:
        if visit.mode == mode and visit.discarded is None:
            alike.setdefault(visit.subjects, []).append(visit)
    taken_ns = [sum(_medians([visit.runs_ns[key] for visit in visits]) for key in visits[0].runs_ns) for visits in alike.values()]
    return np.concatenate([visits_ns / np.percentile(visits_ns, LATENCY_PERCENTILE) for visits_ns in taken_ns])


def _medians(rows: Sequence[Figures]) -> Figures:
    """Return the median of each row; all at once where they are equally long, which is many times as fast."""
    if len({len(row) for row in rows}) == 1:
        return np.asarray(np.median(np.stack(rows), axis=1))
    return np.array([np.median(row) for row in rows])


def relative_half_difference(halves_ms: tuple[float, float]) -> float:
    """Return how far two estimates of one latency lie apart, relative to their mean."""
    even, odd = halves_ms
    return abs(even - odd) / ((even + odd) / 2)
