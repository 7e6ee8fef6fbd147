"""The sum of a network's blocks in a latency table: every block the space allows must be there, or there is no predictor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from luts.condition import Condition
from predictors.base import LatencyPredictor
from predictors.folder import Arrays, PredictorFileError
from predictors.population import Numbers
from supernets.places import AdditiveCost, distinct_blocks
from supernets.space import Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

AnyAdditive = TypeVar("AnyAdditive", bound="Additive")


@dataclass(frozen=True)
class BlockLatency:
    """What a predictor keeps of a table's entry."""

    latency_ms: float
    origin: str


class Additive(LatencyPredictor):
    """latency_ms = sum of the blocks' table entries; nothing is fitted.

    `mode` is the table's (in a chain, or alone), `entries` block key → latency and origin. It carries all it needs: predicting
    reads no table.
    """

    name: ClassVar[str] = "additive"

    def __init__(self, space: SearchSpace, condition: Condition | None, mode: str, entries: Mapping[str, BlockLatency]) -> None:
        super().__init__(space, condition)
        self.mode = mode
        self.entries = dict(entries)
        self._sums = AdditiveCost(space, lambda block: self.entries[block.key].latency_ms)

    @classmethod
    def create(cls: type[AnyAdditive], space: SearchSpace, table: LatencyTable | None) -> AnyAdditive:
        """Return the predictor of a table.

        Raises:
            MissingBlockError: the table lacks blocks that the space allows.
            ValueError: no table was given.
        """
        if table is None:
            raise ValueError(f"latency predictor {cls.name!r} needs a latency table; give the one that profiler collect wrote")
        blocks = distinct_blocks(space)
        table.latency_ms(blocks)  # refuses here, naming all that is missing
        entries = {block.key: table.entry(block) for block in blocks}
        return cls(space, table.condition, table.mode, {key: BlockLatency(entry.latency_ms, entry.origin) for key, entry in entries.items()})

    @property
    def origins(self) -> dict[str, int]:
        """Origin (measured, interpolated, predicted, simulated) → number of blocks whose figure has it."""
        return dict(Counter(entry.origin for entry in self.entries.values()))

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        """Nothing: the entries were measured."""

    def _predict(self, population: Population) -> Numbers:
        return self._sums(population)

    def _settings(self) -> dict[str, Any]:
        return {"mode": self.mode, "blocks": list(self.entries), "origins": [entry.origin for entry in self.entries.values()]}

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"latency_ms": np.array([entry.latency_ms for entry in self.entries.values()])}

    @classmethod
    def _restored(
        cls: type[AnyAdditive], space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays
    ) -> AnyAdditive:
        return cls(space, condition, settings["mode"], saved_entries(space, settings["blocks"], settings["origins"], arrays["latency_ms"]))


def saved_entries(space: SearchSpace, keys: Sequence[str], origins: Sequence[str], latencies_ms: Numbers) -> dict[str, BlockLatency]:
    """Return the entries of a saved predictor.

    Raises:
        PredictorFileError: their number differs, one is not above zero, or the space has blocks without one.
    """
    if not len(keys) == len(origins) == len(latencies_ms) or not (latencies_ms > 0).all():
        raise PredictorFileError(f"the predictor holds {len(keys)} blocks and {len(latencies_ms)} latencies, or one not above 0; save it again")
    entries = {key: BlockLatency(float(ms), origin) for key, origin, ms in zip(keys, origins, latencies_ms, strict=True)}
    missing = [block.key for block in distinct_blocks(space) if block.key not in entries]
    if missing:
        raise PredictorFileError(
            f"space {space.name!r} has {len(missing)} blocks that the saved predictor lacks, such as {missing[0]}; create it again from its table"
        )
    return entries
