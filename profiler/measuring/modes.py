"""Whether a latency has two modes: two clusters of samples further apart than MODES_APART, and the share of the slow one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Runs = np.ndarray[Any, np.dtype[np.float64]]

MODES_APART = 0.05
FEWEST_SHARE = 0.05  # of a cluster: less is outliers
SEPARATION = 3.0  # distance of the clusters in sums of their deviations: less is one wide one
LOOKED_AT = 2.0  # times the fast level: what is slower is no mode
SAME_SPEED = 0.04  # samples this near to the device's own slow level are that
FEWEST_SAMPLES = 20
MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Modes:
    """The clusters of a latency: their medians, in nanoseconds; `slow_share` is 0 and both are equal where there is only one."""

    fast_ns: float
    slow_ns: float
    slow_share: float

    @property
    def ratio(self) -> float:
        """How much slower the slow cluster is."""
        return self.slow_ns / self.fast_ns


def modes_of(runs_ns: Runs, device_ratio: float = 1.0) -> Modes:
    """Return the modes of a subject's samples; `device_ratio` is the slow speed of the device itself, which is no mode of the subject's."""
    fast_ns = float(np.percentile(runs_ns, 10))
    logs = np.sort(np.log(runs_ns[runs_ns < LOOKED_AT * fast_ns * max(1.0, device_ratio)] / fast_ns))
    if device_ratio > 1.0:
        slow = np.log(device_ratio)
        logs = np.sort(np.where(np.abs(logs - slow) < SAME_SPEED, logs - slow, logs))
    split = _split(logs)
    if split is None:
        middle_ns = fast_ns * float(np.exp(np.median(logs)))
        return Modes(middle_ns, middle_ns, 0.0)
    while (lower := _split(logs[:split])) is not None:
        split = lower
    return Modes(fast_ns * float(np.exp(np.median(logs[:split]))), fast_ns * float(np.exp(np.median(logs[split:]))), 1 - split / len(logs))


def _split(ascending: Runs) -> int | None:
    """Return how many values belong to the lower of two clusters, where the variance between them is largest; None where there is only one."""
    if len(ascending) < FEWEST_SAMPLES:
        return None
    sums, count = np.cumsum(ascending)[:-1], np.arange(1, len(ascending))
    low_means, high_means = sums / count, (ascending.sum() - sums) / (len(ascending) - count)
    split = int(np.argmax(count * (len(ascending) - count) * (high_means - low_means) ** 2)) + 1
    low, high = ascending[:split], ascending[split:]
    apart = float(np.median(high) - np.median(low))
    lone = not FEWEST_SHARE <= split / len(ascending) <= 1 - FEWEST_SHARE
    return None if lone or apart <= np.log1p(MODES_APART) or apart < SEPARATION * (_sigma(low) + _sigma(high)) else split


def _sigma(values: Runs) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
