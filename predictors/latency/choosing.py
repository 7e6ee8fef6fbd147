"""Which of several fitted predictors to use, and whether enough networks were measured; both by cross-validation alone.

Networks held out take no part in either: they only judge what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from predictors.base import LatencyPredictor
from predictors.population import Numbers

# What is trusted until measurements speak against it. Terms come first as they are held to the calibrated line: with 10 to 24
# networks they err less on fresh ones than it does, and less than whichever has the lowest error in cross-validation.
PREFERRED = ("terms", "calibrated", "gaussian_process", "gradient_boosting", "physical", "additive", "flops_line")
FEWEST_NETWORKS = 4  # fewer say nothing of how far their errors spread
WIDEST_HALF_WIDTH_PERCENT = 0.5  # of the mean error's 95 % interval: then predictors that differ by a point can be told apart


def choose(predictors: Mapping[str, LatencyPredictor]) -> str:
    """Return the name of the first in order of preference that is as good as the best by cross-validation, of predictors fitted to the same networks.

    As good: its mean error exceeds the lowest one by no more than one standard error of their difference, network by
    network. Predictors that `PREFERRED` does not know come last; with one network there is nothing but preference.
    """
    errors = {name: _errors_percent(predictors[name]) for name in (*PREFERRED, *predictors) if name in predictors}
    best = min(errors.values(), key=lambda e: float(e.mean()))
    return next(name for name, e in errors.items() if (e - best).mean() <= (e - best).std(ddof=min(1, len(e) - 1)) / len(e) ** 0.5)


def _errors_percent(predictor: LatencyPredictor) -> Numbers:
    return np.zeros(1) if predictor.cross_validation is None else predictor.cross_validation.errors_percent


def networks_to_add(predictor: LatencyPredictor, half_width_percent: float = WIDEST_HALF_WIDTH_PERCENT) -> int:
    """Return how many more networks to measure until the predictor's mean error is known to this many points, with 95 % confidence; 0: none.

    An estimate, as the interval shrinks with the root of the number of networks; ask again when they are measured.
    """
    validation = predictor.cross_validation
    if validation is None or validation.networks < FEWEST_NETWORKS:
        return FEWEST_NETWORKS - (0 if validation is None else validation.networks)
    wanted = validation.networks * (validation.mape_half_width_percent() / half_width_percent) ** 2
    return max(0, math.ceil(wanted) - validation.networks)
