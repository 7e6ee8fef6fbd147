"""A Gaussian process on what the terms leave over, where the networks show a pattern in it; it needs tens of them.

Zero mean, squared-exponential kernel of one length over standardised columns; length and share of noise are those of the
highest likelihood on a grid (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.1, with
the variance in closed form), so that a fit needs no optimizer and always ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

import numpy as np

from luts.condition import Condition
from predictors.folder import Arrays
from predictors.latency.terms import Terms
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

LENGTHS = np.geomspace(1.0, 30.0, 10)  # in standard deviations of a column, times the root of the number of columns
NOISE_SHARES = np.geomspace(0.01, 10.0, 9)  # variance of the noise over that of the pattern


@dataclass(frozen=True)
class Process:
    """What a fit leaves: shift and scale of the columns, the networks in these columns, their weights, and the kernel's length."""

    shift: Numbers
    scale: Numbers
    points: Numbers
    weights: Numbers
    length: Numbers

    def __call__(self, columns: Numbers) -> Numbers:
        """Return the mean of the process, shape (n,)."""
        return np.asarray(_kernel(_squared_distances((columns - self.shift) / self.scale, self.points), float(self.length)) @ self.weights)


def fit_process(columns: Numbers, values: Numbers) -> Process:
    """Return the process fitted to values (n,) at points (n, n_columns)."""
    shift, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    points = (columns - shift) / scale
    distances = _squared_distances(points, points)
    best, highest = Process(shift, scale, points, np.zeros(len(values)), np.array(1.0)), -np.inf
    for length in LENGTHS * columns.shape[1] ** 0.5:
        variances, axes = np.linalg.eigh(_kernel(distances, length))
        turned = axes.T @ values
        for noise in NOISE_SHARES:
            shares = np.maximum(variances, 0) + noise
            likelihood = -(len(values) * np.log(np.mean(turned**2 / shares) + np.finfo(float).tiny) + np.log(shares).sum()) / 2
            if likelihood > highest:
                best, highest = Process(shift, scale, points, axes @ (turned / shares), np.array(length)), likelihood
    return best


def _squared_distances(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T)


def _kernel(squared_distances: Numbers, length: float) -> Numbers:
    return np.asarray(np.exp(-squared_distances / (2 * length**2)))


class GaussianProcess(Terms):
    """latency_ms = terms * exp(process), over the logarithms of the table sum and of each term's share of it."""

    name: ClassVar[str] = "gaussian_process"
    _process: Process | None = None

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        super()._fit(population, latencies_ms)
        self._process = fit_process(self._log_shares(population), np.log(latencies_ms / super()._predict(population)))

    def _predict(self, population: Population) -> Numbers:
        terms_ms = super()._predict(population)
        return terms_ms if self._process is None else terms_ms * np.exp(self._process(self._log_shares(population)))

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        process = {} if self._process is None else dict(zip(Process.__dataclass_fields__, astuple(self._process), strict=True))
        return {**super()._arrays(), **process}

    @classmethod
    def _restored(cls, space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> GaussianProcess:
        predictor = super()._restored(space, condition, settings, arrays)
        predictor._process = Process(**{name: arrays[name] for name in Process.__dataclass_fields__})
        return predictor
