"""Errors of latencies predicted for networks left out of the fit: what choosing, intervals and the call for more networks rest on.

An error is ln(measured / predicted): the same size above and below, and a few per cent read as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from predictors.population import Numbers
from supernets.space import Population

FOLDS, REPEATS = 10, 5  # up to FOLDS networks each is left out alone, and there is nothing to repeat
ANGLES = 20_001  # steps of the integral under Student's t; four digits of a quantile

FitAndPredict = Callable[[Population, Numbers, Population], Numbers]


@dataclass(frozen=True)
class CrossValidation:
    """`log_ratios` (n_repeats, n_networks): the errors of fits that did not see the network, one for each way of dividing the networks."""

    log_ratios: Numbers

    @property
    def networks(self) -> int:
        """How many networks there were."""
        return int(self.log_ratios.shape[1])

    @property
    def method(self) -> str:
        """The method, in words."""
        return "networks left out one by one" if self.networks <= FOLDS else f"networks left out in {FOLDS} folds"

    @cached_property
    def errors_percent(self) -> Numbers:
        """Absolute relative error of each network's prediction, (n_networks,)."""
        return np.asarray(100 * np.abs(np.expm1(-self.log_ratios)).mean(axis=0))

    @property
    def mape_percent(self) -> float:
        """Mean absolute relative error."""
        return float(self.errors_percent.mean())

    def mape_half_width_percent(self, confidence: float = 0.95) -> float:
        """Return how far the mean error may be from that of further networks: half of its confidence interval."""
        return student_t(confidence, self.networks - 1) * float(self.errors_percent.std(ddof=1)) / float(np.sqrt(self.networks))

    def interval(self, predicted_ms: Numbers, coverage: float) -> tuple[Numbers, Numbers]:
        """Return the limits between which this share of measurements of further networks lies.

        That is the prediction interval of normal errors with the mean and spread of those seen, Student's t for their number.
        Their noise of measuring is in it; where predictions are biased the interval is not, so it need not hold the prediction.
        """
        spread = float(np.sqrt(self.log_ratios.var(axis=1, ddof=1).mean()))
        reach = student_t(coverage, self.networks - 1) * spread * (1 + 1 / self.networks) ** 0.5
        middle_ms = predicted_ms * np.exp(self.log_ratios.mean())
        return middle_ms * np.exp(-reach), middle_ms * np.exp(reach)


def cross_validate(fit_and_predict: FitAndPredict, population: Population, latencies_ms: Numbers) -> CrossValidation | None:
    """Return the errors of networks left out, fold by fold; None for a single network. Folds follow from the number of networks alone."""
    count = len(population)
    if count < 2:
        return None
    rng = np.random.default_rng(count)
    log_ratios = np.empty((1 if count <= FOLDS else REPEATS, count))
    for errors in log_ratios:
        for fold in np.array_split(rng.permutation(count), min(FOLDS, count)):
            kept = np.setdiff1d(np.arange(count), fold)
            errors[fold] = np.log(latencies_ms[fold] / fit_and_predict(population[kept], latencies_ms[kept], population[fold]))
    return CrossValidation(log_ratios)


def student_t(coverage: float, degrees: int) -> float:
    """Return the t that Student's distribution exceeds, on either side together, with probability 1 - coverage.

    Raises:
        ValueError: a coverage outside 0 to 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}; expected a share between 0 and 1")
    angles = np.linspace(-np.pi / 2, np.pi / 2, ANGLES)
    density = np.cos(angles) ** (degrees - 1)  # of arctan(t / sqrt(degrees))
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.sqrt(degrees) * np.tan(np.interp((1 + coverage) / 2, cumulative / cumulative[-1], angles)))
