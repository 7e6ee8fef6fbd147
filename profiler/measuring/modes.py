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
    if len(logs) < FEWEST_SAMPLES:
        return Modes(fast_ns, fast_ns, 0.0)
    count = np.arange(1, len(logs))
    low_means = np.cumsum(logs)[:-1] / count
    high_means = (logs.sum() - np.cumsum(logs)[:-1]) / (len(logs) - count)
    split = int(np.argmax(count * (len(logs) - count) * (high_means - low_means) ** 2)) + 1  # where the variance between is largest
    low, high = logs[:split], logs[split:]
    share = len(high) / len(logs)
    apart = float(np.median(high) - np.median(low))
    if apart <= np.log1p(MODES_APART) or apart < SEPARATION * (_sigma(low) + _sigma(high)) or not FEWEST_SHARE <= share <= 1 - FEWEST_SHARE:
        middle_ns = fast_ns * float(np.exp(np.median(logs)))
        return Modes(middle_ns, middle_ns, 0.0)
    return Modes(fast_ns * float(np.exp(np.median(low))), fast_ns * float(np.exp(np.median(high))), share)


def _sigma(values: Runs) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
