"""Weights of columns, fitted in relative error: each network's row is divided by its latency, so that per cent count, not milliseconds.

`columns` is (n_networks, n_columns), `latencies_ms` (n_networks,). Columns may have any units.
"""

from __future__ import annotations

import numpy as np

from predictors.population import Numbers

STEPS_A_COLUMN = 10  # far more than the algorithm needs; a bound should rounding ever make it go round in circles


def ridge(columns: Numbers, latencies_ms: Numbers, targets_ms: Numbers, strength: float) -> Numbers:
    """Return the weights that reach the targets best, held towards zero: `strength` is a share of each column's own weight in the fit."""
    scaled, scales = _relative(columns, latencies_ms)
    normal = scaled.T @ scaled + strength * len(latencies_ms) * np.eye(len(scales))
    return np.asarray(np.linalg.solve(normal, scaled.T @ (targets_ms / latencies_ms)) / scales)


def nonnegative(columns: Numbers, latencies_ms: Numbers) -> Numbers:
    """Return the weights, none below zero, that reach the latencies best."""
    scaled, scales = _relative(columns, latencies_ms)
    return _active_set(scaled, np.ones(len(latencies_ms))) / scales


def _relative(columns: Numbers, latencies_ms: Numbers) -> tuple[Numbers, Numbers]:
    """Return the columns over the latencies, each column scaled to a mean of one, and the scales."""
    relative = columns / latencies_ms[:, None]
    scales = np.abs(relative).mean(axis=0)
    scales[scales == 0] = 1.0
    return relative / scales, scales


def _active_set(a: Numbers, b: Numbers) -> Numbers:
    """Return x >= 0 that minimises |a x - b|: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23."""
    x = np.zeros(a.shape[1])
    passive = np.zeros(len(x), dtype=bool)
    tolerance = 1e-10 * len(b)
    for _ in range(STEPS_A_COLUMN * len(x)):
        gradient = np.where(passive, -np.inf, a.T @ (b - a @ x))
        if gradient.max() <= tolerance:
            break
        passive[gradient.argmax()] = True
        while True:
            wanted = np.zeros(len(x))
            wanted[passive] = np.linalg.lstsq(a[:, passive], b, rcond=None)[0]
            below = passive & (wanted <= 0)
            if not below.any():
                break
            share = (x[below] / (x[below] - wanted[below])).min()  # of the way, until the first weight reaches zero
            x = x + share * (wanted - x)
            passive &= x > tolerance
        x = wanted
    return x
