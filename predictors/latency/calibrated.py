"""The sum of table entries put right on whole networks: blocks timed one by one meet other caches and layouts than in a network.

The sum's error is nearly the same share, and the same few microseconds, for every network of a device, so
a line through a few measured networks takes most of it away; its slope and intercept need no reason beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from luts.condition import Condition
from predictors.base import NotFittedError
from predictors.folder import Arrays
from predictors.latency.additive import Additive, BlockLatency, saved_entries
from predictors.latency.line import Line, fit_line
from predictors.population import Numbers
from supernets.space import Population, SearchSpace


class CalibratedAdditive(Additive):
    """latency_ms = intercept_ms + slope * sum of the blocks' table entries, fitted to whole networks in relative error."""

    name: ClassVar[str] = "calibrated"

    def __init__(
        self, space: SearchSpace, condition: Condition | None, mode: str, entries: Mapping[str, BlockLatency], line: Line | None = None
    ) -> None:
        super().__init__(space, condition, mode, entries)
        self._line = line

    @property
    def line(self) -> Line:
        """The fitted line, its slope without unit.

        Raises:
            NotFittedError: the predictor was not fitted.
        """
        if self._line is None:
            raise NotFittedError(f"latency predictor {self.name!r} was not fitted; call fit(population, latencies_ms) first")
        return self._line

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        smallest = self.space.encode([self.space.smallest()])
        self._line = fit_line(self._sums(population), latencies_ms, float(self._sums(smallest)[0]))

    def _predict(self, population: Population) -> Numbers:
        return self.line(self._sums(population))

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "intercept_ms": self.line.intercept_ms, "slope": self.line.slope}

    @classmethod
    def _restored(cls, space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> CalibratedAdditive:
        entries = saved_entries(space, settings["blocks"], settings["origins"], arrays["latency_ms"])
        return cls(space, condition, settings["mode"], entries, Line(settings["intercept_ms"], settings["slope"]))
