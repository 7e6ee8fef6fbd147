"""The calibrated sum with more causes of the difference between blocks and networks, where few networks can tell them apart.

Around a block that is run for itself its two ends are converted to the runtime's own layout and its weights wait in the
cache; in a network neither is so. What a block takes alone, what it hands over, and its weights say how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from luts.condition import Condition
from predictors.folder import Arrays
from predictors.latency.additive import BlockLatency, saved_entries
from predictors.latency.block_costs import boundary_elements, weight_elements
from predictors.latency.block_sums import BlockSums
from predictors.latency.calibrated import CalibratedAdditive
from predictors.latency.least_squares import ridge
from predictors.latency.line import Line
from predictors.population import Numbers
from supernets.blocks import BlockSpec
from supernets.space import Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

AnyTerms = TypeVar("AnyTerms", bound="Terms")

TERMS = ("table sum", "sum alone", "boundary elements", "weights")
# Holds the terms near the calibrated line until networks speak against it; best of 1e-5 to 1e-2 with 10 to 42 networks.
STRENGTH = 1e-4


class Terms(CalibratedAdditive):
    """latency_ms = line(table sum) + a correction linear in `TERMS`, fitted in relative error; one table look-up a block, as any sum.

    `alone_ms` is block key → latency alone; without it that term is zero for every block.
    """

    name: ClassVar[str] = "terms"

    def __init__(
        self, space: SearchSpace, condition: Condition | None, mode: str, entries: Mapping[str, BlockLatency], alone_ms: Mapping[str, float],
        line: Line | None = None, correction: Numbers | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, condition, mode, entries, line)
        self.alone_ms = {key: alone_ms[key] for key in self.entries} if self.entries.keys() <= alone_ms.keys() else {}
        self._terms = BlockSums(space, self._terms_of)
        self._correction = correction

    @classmethod
    def create(cls: type[AnyTerms], space: SearchSpace, table: LatencyTable | None) -> AnyTerms:
        """Return the predictor of a table; see `Additive.create`."""
        plain = CalibratedAdditive.create(space, table)
        return cls(space, plain.condition, plain.mode, plain.entries, {} if table is None else table.alone_ms)

    def _terms_of(self, block: BlockSpec) -> tuple[float, ...]:
        return self.entries[block.key].latency_ms, self.alone_ms.get(block.key, 0.0), boundary_elements(block), weight_elements(block)

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        super()._fit(population, latencies_ms)
        terms = self._terms(population)
        columns = np.concatenate([np.ones((len(terms), 1)), terms], axis=1)
        self._correction = ridge(columns, latencies_ms, latencies_ms - self.line(terms[:, 0]), STRENGTH)

    def _predict(self, population: Population) -> Numbers:
        line = self.line  # says where nothing was fitted
        weights = np.zeros(1 + len(TERMS)) if self._correction is None else self._correction.copy()
        weights[:2] += line.intercept_ms, line.slope
        return np.asarray(weights[0] + self._terms.weighted(population, weights[1:]))

    def _log_shares(self, population: Population) -> Numbers:
        """Return ln of the table sum and of each known term's share of it, (n_architectures, n_columns): what is left over may depend on."""
        terms = self._terms(population)
        known = [1, 2, 3] if self.alone_ms else [2, 3]
        return np.asarray(np.log(np.concatenate([terms[:, :1], terms[:, known] / terms[:, :1]], axis=1)))

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        alone_ms = np.array([self.alone_ms[key] for key in self.entries] if self.alone_ms else [], dtype=np.float64)
        return {**super()._arrays(), "alone_ms": alone_ms, "correction": np.zeros(0) if self._correction is None else self._correction}

    @classmethod
    def _restored(cls: type[AnyTerms], space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> AnyTerms:
        entries = saved_entries(space, settings["blocks"], settings["origins"], arrays["latency_ms"])
        alone_ms = dict(zip(settings["blocks"], arrays["alone_ms"].tolist(), strict=False))
        line = Line(settings["intercept_ms"], settings["slope"])
        return cls(space, condition, settings["mode"], entries, alone_ms, line, arrays["correction"])
