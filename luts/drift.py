"""The drift of a device during its measurements, seen by one block that every worker visits again and again: the anchor.

A round's level is the low percentile of its anchor samples, relative to the lowest of all rounds. Where levels drifted by
more than TOLERATED, each round's samples are divided by its level when figures are made of them; what is stored stays raw.
A round much slower than that met another speed of the machine, not drift: the low percentile of `luts.estimates` looks
past it, a division would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from luts.estimates import LATENCY_PERCENTILE

if TYPE_CHECKING:
    from luts.records import Subject, VisitRecord

Samples = np.ndarray[Any, Any]

TOLERATED = 0.02  # below, nothing is corrected: the anchor itself is known no better
ANOTHER_SPEED = 1.15
FEWEST_VISITS = 5  # of the anchor in a round, for its level to say anything


@dataclass(frozen=True)
class Drift:
    """`levels`: round → its level, at least 1; `rounds`: worker process → its round. Visits of workers without an anchor never drifted."""

    levels: Mapping[int, float] = field(default_factory=dict)
    rounds: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_anchor(cls, visits: Iterable[tuple[int, str, Samples]]) -> Drift:
        """Return the drift that visits of the anchor show: (round, worker, nanoseconds a run) of each."""
        by_round: dict[int, list[Samples]] = {}
        rounds: dict[str, int] = {}
        for number, worker, run_ns in visits:
            by_round.setdefault(number, []).append(run_ns)
            rounds[worker] = number
        lows = {
            number: float(np.percentile(np.concatenate(found), LATENCY_PERCENTILE))
            for number, found in by_round.items() if len(found) >= FEWEST_VISITS
        }  # fmt: skip
        lowest = min(lows.values(), default=1.0)
        return cls({number: low / lowest for number, low in lows.items()}, rounds)

    @property
    def largest(self) -> float:
        """How much slower than the fastest round the slowest was, as a share: 0.03 is 3 %."""
        return max(self.levels.values(), default=1.0) - 1

    @cached_property
    def corrected(self) -> dict[int, float]:
        """Round → what its samples are divided by; rounds that are not corrected are left out."""
        drifted = {number: level for number, level in self.levels.items() if level <= ANOTHER_SPEED}
        return {number: level for number, level in drifted.items() if level > 1} if max(drifted.values(), default=1.0) > 1 + TOLERATED else {}

    def factor(self, worker: str) -> float:
        """Return what samples of this worker process are divided by."""
        return self.corrected.get(self.rounds.get(worker, -1), 1.0)

    def undrifted(self, samples: Iterable[tuple[Subject, VisitRecord, Samples]]) -> Iterator[tuple[Subject, VisitRecord, Samples]]:
        """Yield a store's samples, corrected."""
        for subject, visit, own_samples in samples:
            factor = self.factor(visit.worker)
            yield subject, visit, own_samples if factor == 1.0 else own_samples / factor


def drift_of(anchor_samples: Iterable[tuple[Subject, VisitRecord, Samples]]) -> Drift:
    """Return the drift in a store's samples of mode `anchor`."""
    return Drift.of_anchor((visit.round, visit.worker, samples / visit.repeats) for _, visit, samples in anchor_samples)
