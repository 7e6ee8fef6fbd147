"""A model of the causes of latency that needs no table: so many nanoseconds a MAC, a moved value, a weight, a block.

No weight is below zero, so that it stays sane on networks unlike those it was fitted to; ten networks are enough for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from luts.condition import Condition
from predictors.base import LatencyPredictor, NotFittedError
from predictors.folder import Arrays
from predictors.latency.block_costs import PHYSICAL_COSTS, physical_costs
from predictors.latency.block_sums import BlockSums
from predictors.latency.least_squares import nonnegative
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable


class Physical(LatencyPredictor):
    """latency_ms = sum of `weights` * costs (see `block_costs.PHYSICAL_COSTS`), weights >= 0 fitted in relative error."""

    name: ClassVar[str] = "physical"

    def __init__(self, space: SearchSpace, condition: Condition | None = None, weights: Numbers | None = None) -> None:
        super().__init__(space, condition)
        self._costs = BlockSums(space, physical_costs)
        self._weights = weights

    @classmethod
    def create(cls, space: SearchSpace, table: LatencyTable | None) -> Physical:
        """Return the predictor, to be fitted; a table gives its condition."""
        return cls(space, None if table is None else table.condition)

    @property
    def weights(self) -> dict[str, float]:
        """Cost → milliseconds each.

        Raises:
            NotFittedError: the predictor was not fitted.
        """
        return dict(zip(PHYSICAL_COSTS, self._fitted().tolist(), strict=True))

    def _fitted(self) -> Numbers:
        if self._weights is None:
            raise NotFittedError(f"latency predictor {self.name!r} was not fitted; call fit(population, latencies_ms) first")
        return self._weights

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        self._weights = nonnegative(self._costs(population), latencies_ms)

    def _predict(self, population: Population) -> Numbers:
        return self._costs.weighted(population, self._fitted())

    def _settings(self) -> dict[str, Any]:
        return {"weights": self.weights}

    @classmethod
    def _restored(cls, space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> Physical:
        return cls(space, condition, np.array([settings["weights"][cost] for cost in PHYSICAL_COSTS], dtype=np.float64))
