"""Latency predictors by name. All are sums over tables of codes, so a million architectures take about a second.

flops_line: a line in MACs, the baseline beside every other figure. additive: the sum of the blocks' entries in a latency
table. calibrated: that sum, scaled and shifted to whole networks. Further ones come through the entry-point group
`elastic_latency.latency_predictors`: name → subclass of `predictors.base.LatencyPredictor`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from predictors import folder, registry
from predictors.base import LatencyPredictor
from supernets.space import SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

ENTRY_POINT_GROUP = "elastic_latency.latency_predictors"
LATENCY_PREDICTORS = {
    "flops_line": "predictors.latency.flops_line:FlopsLine",
    "additive": "predictors.latency.additive:Additive",
    "calibrated": "predictors.latency.calibrated:CalibratedAdditive",
}


def names() -> list[str]:
    """Return the names of all latency predictors, built in and from entry points."""
    return registry.known_names(LATENCY_PREDICTORS, ENTRY_POINT_GROUP)


def create(name: str, space: SearchSpace, table: LatencyTable | None = None) -> LatencyPredictor:
    """Return a predictor of this name for a space, under the table's condition; only `flops_line` does without a table.

    Raises:
        UnknownPredictorError: no latency predictor has that name.
        MissingBlockError: the table lacks blocks that the space allows.
        ValueError: the predictor needs a table and none was given.
    """
    return _class_of(name).create(space, table)


def load(path: str | Path, space: SearchSpace | None = None) -> LatencyPredictor:
    """Return the predictor saved in a folder; `space` is needed for a space that has no registered name.

    Raises:
        FileNotFoundError: the folder holds no predictor.
        PredictorFileError: it holds a damaged one, one of accuracies, or one of another space.
    """
    description = folder.read(path, "latency")
    return _class_of(description.name).load(path, description, folder.restored_space(description.space, space))


def _class_of(name: str) -> type[LatencyPredictor]:
    found: type[LatencyPredictor] = registry.class_of(name, "latency", LATENCY_PREDICTORS, ENTRY_POINT_GROUP)
    return found
