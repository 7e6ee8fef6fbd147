"""The baseline: latency as a line in MACs. What a table of measured blocks is worth is its distance from this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from luts.condition import Condition
from predictors.base import LatencyPredictor, NotFittedError
from predictors.folder import Arrays
from predictors.latency.line import Line, fit_line
from predictors.population import Numbers
from supernets.counts import block_macs, macs
from supernets.places import AdditiveCost
from supernets.space import Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable


class FlopsLine(LatencyPredictor):
    """latency_ms = intercept_ms + ms_per_mac * MACs, fitted to whole networks in relative error."""

    name: ClassVar[str] = "flops_line"

    def __init__(self, space: SearchSpace, condition: Condition | None = None, line: Line | None = None) -> None:
        super().__init__(space, condition)
        self._macs = AdditiveCost(space, block_macs)
        self._line = line

    @classmethod
    def create(cls, space: SearchSpace, table: LatencyTable | None) -> FlopsLine:
        """Return the predictor, to be fitted; a table gives its condition."""
        return cls(space, None if table is None else table.condition)

    @property
    def line(self) -> Line:
        """The fitted line, its slope in milliseconds a MAC.

        Raises:
            NotFittedError: the predictor was not fitted.
        """
        if self._line is None:
            raise NotFittedError(f"latency predictor {self.name!r} was not fitted; call fit(population, latencies_ms) first")
        return self._line

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        self._line = fit_line(self._macs(population), latencies_ms, float(macs(self.space.blocks(self.space.smallest()))))

    def _predict(self, population: Population) -> Numbers:
        return self.line(self._macs(population))

    def _settings(self) -> dict[str, Any]:
        return {"intercept_ms": self.line.intercept_ms, "ms_per_mac": self.line.slope}

    @classmethod
    def _restored(cls, space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> FlopsLine:
        return cls(space, condition, Line(settings["intercept_ms"], settings["ms_per_mac"]))
