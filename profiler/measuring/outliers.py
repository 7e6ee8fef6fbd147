"""Samples that belong to no mode: flagged, never deleted; a low percentile looks past them."""

from __future__ import annotations

from typing import Any

import numpy as np

from profiler.measuring.modes import MAD_TO_SIGMA, Modes, modes_of

Runs = np.ndarray[Any, np.dtype[np.float64]]

SIGMAS = 10.0  # as hyperfine: 1.4826 * MAD is the deviation of a normal distribution
LEAST_SIGMA = 0.002  # of the level: samples that repeat to the nanosecond must not make the next one an outlier


def outliers(runs_ns: Runs, modes: Modes | None = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which samples lie more than SIGMAS deviations of the fast mode above the slow mode, or under the fast one; shape (n_runs,)."""
    modes = modes or modes_of(runs_ns)
    fast = runs_ns[runs_ns <= np.sqrt(modes.fast_ns * modes.slow_ns)] if modes.slow_share else runs_ns
    sigma_ns = max(MAD_TO_SIGMA * float(np.median(np.abs(fast - np.median(fast)))), LEAST_SIGMA * modes.fast_ns)
    flagged: np.ndarray[Any, np.dtype[np.bool_]] = (runs_ns > modes.slow_ns + SIGMAS * sigma_ns) | (runs_ns < modes.fast_ns - SIGMAS * sigma_ns)
    return flagged
