"""From raw samples to one latency: a low percentile pooled over visits, and how far it can be trusted.

Latencies on a shared machine are not one bell curve: a core runs at two or more speeds and changes between them many
times a minute, so a median says how often the machine was slow, and a burst of runs sees one speed only. A low
percentile over many short visits scattered over the session finds the fast level again to about one percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Runs = np.ndarray[Any, np.dtype[Any]]  # integers, or shares of them

LATENCY_PERCENTILE = 10  # low enough to miss the slow states, high enough to outvote a freak reading of the clock
FEWEST_WORKERS = 4  # that a bootstrap of processes can be made of
BOOTSTRAP_DRAWS = 100  # the spread of a spread over 100 draws is 7 % of it
NANOSECONDS_A_MILLISECOND = 1e6


@dataclass(frozen=True)
class Estimate:
    """A latency and its trust.

    `relative_spread` is the standard error over a bootstrap of whole worker processes, as a share of the latency;
    `halves_ms` are the estimates from the even and the odd processes alone. Where there are too few processes visits take
    their place; with fewer than two visits they are None and NaN.
    """

    latency_ms: float
    relative_spread: float | None
    visits: int
    samples: int
    halves_ms: tuple[float, float]


def estimate(visits: Sequence[Runs], workers: Sequence[str] = ()) -> Estimate:
    """Return the estimate from one or more visits, each an array of nanoseconds a run, in order of time; `workers` names the process of each.

    Raises:
        ValueError: there is no visit.
    """
    if not visits:
        raise ValueError("an estimate from 0 visits was asked for; expected at least one")
    pooled = np.concatenate(visits)
    order = np.argsort(pooled, kind="stable")
    ascending = pooled[order]
    if len(visits) == 1:
        return Estimate(_low_percentile_ms(ascending), None, 1, len(pooled), (np.nan, np.nan))
    places = {worker: place for place, worker in enumerate(dict.fromkeys(workers))}
    units = [places[worker] for worker in workers] if len(places) >= FEWEST_WORKERS else range(len(visits))
    unit_of = np.repeat(units, [len(visit) for visit in visits])[order]
    odd = unit_of % 2 == 1
    halves_ms = (_low_percentile_ms(ascending[~odd]), _low_percentile_ms(ascending[odd]))
    return Estimate(_low_percentile_ms(ascending), _relative_spread(ascending, unit_of), len(visits), len(pooled), halves_ms)


def latency_ms(visits: Sequence[Runs]) -> float:
    """Return the latency alone of `estimate`, at a tenth of its cost."""
    return _low_percentile_ms(np.sort(np.concatenate(visits)))


def _low_percentile_ms(ascending: Runs) -> float:
    """Return the percentile of sorted samples, between two samples on the straight line between them."""
    position = (len(ascending) - 1) * LATENCY_PERCENTILE / 100
    below = int(position)
    first, second = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(first + (second - first) * (position - below)) / NANOSECONDS_A_MILLISECOND


def _relative_spread(ascending: Runs, unit_of: np.ndarray[Any, np.dtype[np.intp]]) -> float:
    """Return the relative standard error of the pooled percentile.

    Whole units (processes, or visits) are drawn again, not samples: the samples of one share the machine's state.
    """
    count = int(unit_of.max()) + 1
    rng = np.random.default_rng(0)  # the same samples always give the same spread
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_DRAWS).astype(np.int32)
    wanted = drawn @ np.bincount(unit_of) * (LATENCY_PERCENTILE / 100)
    looked_at = len(ascending) // 3  # where every draw's percentile nearly always lies
    reached = np.cumsum(drawn[:, unit_of[:looked_at]], axis=1)  # how many samples up to here each draw holds
    if looked_at == 0 or (reached[:, -1] < wanted).any():
        reached = np.cumsum(drawn[:, unit_of], axis=1)
    estimates = ascending[np.argmax(reached >= wanted[:, np.newaxis], axis=1)].astype(np.float64)
    return float(estimates.std(ddof=1) / estimates.mean())
