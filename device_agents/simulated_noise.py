"""What the simulated device does to its runs, as real ones do: two speed levels, drift, outliers, second modes, throttling, a coarse timer.

A run lasts its true cost times a speed level (1 or `slow_factor`, exponential stays at each), times the drift at that
moment, times a second mode (`bimodal_factor`, in half of the visits of a share of the models), times a jitter of about
`jitter` upwards, times an outlier's factor (1 + an exponential of mean 1, in a share of the runs). A timed call of several
runs adds `timer_overhead_ns` to their sum, and reads in steps of `timer_resolution_ns`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np

Nanoseconds: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

THROTTLED_FACTOR = 1.5
BIMODAL_VISITS = 0.5
DRIFT_SHAPES = ("ramp", "wave")
SHARES = ("throttled_share", "outlier_share", "bimodal_share")


@dataclass(frozen=True)
class Disturbances:
    """The simulated device's settings; each can be given in devices.toml.

    throttled_share: of visits, that come back THROTTLED_FACTOR slower and marked.
    jitter: deviation of the normal distribution whose upper half the jitter is.
    slow_factor, fast_dwell_ms, slow_dwell_ms: the second speed level, and the mean stay at each.
    drift, drift_shape, drift_period_s: up to 1 + drift slower: a ramp that ends after the period, or a wave of it; on the virtual clock.
    outlier_share: of runs, that an interruption makes about twice as long, some much longer.
    bimodal_share, bimodal_factor: of models (by seed), that run this much slower in half of their visits.
    timer_overhead_ns, timer_resolution_ns: what timing adds to each call, and the steps it reads in.

    Raises:
        ValueError: a setting is out of range.
    """

    throttled_share: float = 0.0
    jitter: float = 0.01
    slow_factor: float = 1.28
    fast_dwell_ms: float = 80.0
    slow_dwell_ms: float = 100.0
    drift: float = 0.0
    drift_shape: str = "ramp"
    drift_period_s: float = 60.0
    outlier_share: float = 0.01
    bimodal_share: float = 0.0
    bimodal_factor: float = 1.12
    timer_overhead_ns: float = 0.0
    timer_resolution_ns: float = 1.0

    def __post_init__(self) -> None:
        if self.drift_shape not in DRIFT_SHAPES:
            raise ValueError(f"drift_shape is {self.drift_shape!r}; expected one of {', '.join(DRIFT_SHAPES)}")
        for name in (f.name for f in fields(self) if f.name != "drift_shape"):
            least, most = self._range(name)
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}; expected a number from {least:g} to {most:g}")

    @staticmethod
    def _range(name: str) -> tuple[float, float]:
        if name in SHARES:
            return 0.0, 1.0
        if name.endswith("_factor"):
            return 1.0, 100.0
        return (0.0, 1e9) if name in ("jitter", "drift", "timer_overhead_ns") else (1e-3, 1e9)

    def drift_factor(self, seconds: Nanoseconds) -> Nanoseconds:
        """Return how much slower than at its start the device is after these seconds of virtual time."""
        share = seconds / self.drift_period_s
        shape = np.minimum(share, 1.0) if self.drift_shape == "ramp" else (1 - np.cos(2 * math.pi * share)) / 2
        return np.asarray(1 + self.drift * shape)

    def run_ns(self, ideal_ns: Nanoseconds, began_s: float, rng: np.random.Generator) -> Nanoseconds:
        """Return how long these consecutive runs take that begin at this moment, shape (n_runs,)."""
        middle_ns = np.cumsum(ideal_ns) - ideal_ns / 2
        outlier = np.where(rng.random(len(ideal_ns)) < self.outlier_share, 1 + rng.exponential(size=len(ideal_ns)), 1.0)
        jitter = np.exp(np.abs(rng.normal(0.0, self.jitter, len(ideal_ns))))
        return np.asarray(ideal_ns * self._levels(middle_ns, rng) * self.drift_factor(began_s + middle_ns / 1e9) * jitter * outlier)

    def call_ns(self, run_ns: Nanoseconds) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return what the timer says of calls, from their runs (..., n_runs of a call)."""
        steps = np.rint((run_ns.sum(axis=-1) + self.timer_overhead_ns) / self.timer_resolution_ns)
        samples: np.ndarray[Any, np.dtype[np.int64]] = np.maximum(1, np.rint(np.maximum(steps, 1) * self.timer_resolution_ns)).astype(np.int64)
        return samples

    def _levels(self, middle_ns: Nanoseconds, rng: np.random.Generator) -> Nanoseconds:
        fast_ns, slow_ns = self.fast_dwell_ms * 1e6, self.slow_dwell_ms * 1e6
        levels = [bool(rng.random() < slow_ns / (fast_ns + slow_ns))]
        ends_ns: list[float] = []
        while not ends_ns or ends_ns[-1] < middle_ns[-1]:
            ends_ns.append((ends_ns[-1] if ends_ns else 0.0) + rng.exponential(slow_ns if levels[-1] else fast_ns))
            levels.append(not levels[-1])
        return np.where(np.array(levels)[np.searchsorted(ends_ns, middle_ns)], self.slow_factor, 1.0)
