"""The straight line of least squares: the one way a line through figures is fitted here."""

from __future__ import annotations

from predictors.population import Numbers


def least_squares_line(x: Numbers, y: Numbers, weights: Numbers) -> tuple[float, float]:
    """Return intercept and slope of the line whose squared errors, each times its weight, have the least sum; slope 0 where all x are equal."""
    total = float(weights.sum())
    middle_x, middle_y = float(weights @ x) / total, float(weights @ y) / total
    spread = float(weights @ (x - middle_x) ** 2)
    slope = float(weights @ ((x - middle_x) * (y - middle_y))) / spread if spread > 0 else 0.0
    return middle_y - slope * middle_x, slope
