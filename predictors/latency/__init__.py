"""Latency predictors by name, from simple to complex.

Without a table: flops_line, a line in MACs, the baseline beside every other figure; physical, a weight for each cause of
latency. With one: additive, the sum of the blocks' entries; calibrated, that sum scaled and shifted to whole networks;
terms, more causes of the difference; gaussian_process and gradient_boosting, what pattern the terms leave over. All but
the last two are look-ups, so a million architectures take about a second. `choosing.choose` says which to use. Further ones
come through the entry-point group `elastic_latency.latency_predictors`: name → subclass of `predictors.base.LatencyPredictor`;
they are fitted, judged and chosen from as these are.
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
    "physical": "predictors.latency.physical:Physical",
    "terms": "predictors.latency.terms:Terms",
    "gaussian_process": "predictors.latency.gaussian_process:GaussianProcess",
    "gradient_boosting": "predictors.latency.gradient_boosting:GradientBoosting",
}


def names() -> list[str]:
    """Return the names of all latency predictors, built in and from entry points."""
    return registry.known_names(LATENCY_PREDICTORS, ENTRY_POINT_GROUP)


def ladder() -> list[str]:
    """Return the names of all latency predictors from simple to complex; those from entry points come last."""
    return [*LATENCY_PREDICTORS, *registry.plug_in_names(LATENCY_PREDICTORS, ENTRY_POINT_GROUP)]


def create(name: str, space: SearchSpace, table: LatencyTable | None = None) -> LatencyPredictor:
    """Return a predictor of this name for a space, under the table's condition; `flops_line` and `physical` do without a table.

    Raises:
        UnknownPredictorError: no latency predictor has that name.
        MissingBlockError: the table lacks blocks that the space allows.
        ValueError: the predictor needs a table and none was given.
        MissingPackageError: the package it learns with is not installed.
        PlugInError: it is a plug-in that cannot be imported.
    """
    return _class_of(name).create(space, table)


def load(path: str | Path, space: SearchSpace | None = None) -> LatencyPredictor:
    """Return the predictor saved in a folder; `space` is needed for a space that has no registered name.

    Raises:
        FileNotFoundError: the folder holds no predictor.
        PredictorFileError: it holds a damaged one, one of accuracies, or one of another space.
        ImportError: the package it predicts with is not installed.
    """
    description = folder.read(path, "latency")
    return _class_of(description.name).load(path, description, folder.restored_space(description.space, space))


def _class_of(name: str) -> type[LatencyPredictor]:
    found: type[LatencyPredictor] = registry.class_of(name, "latency", LATENCY_PREDICTORS, ENTRY_POINT_GROUP, LatencyPredictor)
    return found
