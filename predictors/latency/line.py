"""A line fitted in relative error: users care about per cent, so a millisecond counts more on a fast network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predictors.line import least_squares_line
from predictors.population import Numbers

# with fewer, two figures are fitted to the noise of one or two networks; a scale alone then predicts others better
NETWORKS_FOR_INTERCEPT = 3


@dataclass(frozen=True)
class Line:
    """latency_ms = intercept_ms + slope * cost."""

    intercept_ms: float
    slope: float

    def __call__(self, costs: Numbers) -> Numbers:
        """Return the latencies of these costs."""
        return self.intercept_ms + self.slope * costs


def fit_line(costs: Numbers, latencies_ms: Numbers, smallest_cost: float) -> Line:
    """Return the line of least squared relative error; through zero where an intercept cannot be trusted.

    That is with fewer than three networks, with networks of one cost, and where the line would fall or would give the
    smallest network of the space (`smallest_cost`) a latency of zero or less.
    """
    scaled = costs / latencies_ms
    through_zero = Line(0.0, float(scaled.sum() / (scaled @ scaled)))
    if len(costs) < NETWORKS_FOR_INTERCEPT or np.ptp(costs) == 0:
        return through_zero
    line = Line(*least_squares_line(costs, latencies_ms, latencies_ms**-2.0))
    return line if line.slope > 0 and line.intercept_ms + line.slope * smallest_cost > 0 else through_zero
