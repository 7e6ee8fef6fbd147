"""Accuracy predictors by name; each takes populations of a named space, as a scikit-learn estimator does.

ridge: linear in the choices and in log MACs, best with tens of samples. xgboost: boosted trees. mlp: the network of
Once-for-All, best with thousands; it trains with torch and predicts without. ofa-mlp: those that its authors published for their
ImageNet supernets, which are read from a file and not fitted. Further ones come through the entry-point group
`elastic_latency.accuracy_predictors`: name → subclass of `predictors.base.AccuracyPredictor`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from predictors import folder, registry
from predictors.base import AccuracyPredictor
from supernets.space import SearchSpace

ENTRY_POINT_GROUP = "elastic_latency.accuracy_predictors"
ACCURACY_PREDICTORS = {
    "ridge": "predictors.accuracy.ridge:RidgeAccuracy",
    "mlp": "predictors.accuracy.mlp:MlpAccuracy",
    "xgboost": "predictors.accuracy.xgboost_trees:XgboostAccuracy",
}
PUBLISHED = {"ofa-mlp": "predictors.accuracy.ofa_mlp:OfaMlpAccuracy"}  # loaded, never fitted


def names() -> list[str]:
    """Return the names of all accuracy predictors, built in and from entry points."""
    return registry.known_names(ACCURACY_PREDICTORS, ENTRY_POINT_GROUP)


def create(name: str, space_name: str, **settings: Any) -> AccuracyPredictor:
    """Return an unfitted predictor of this name for the space of that name; settings are the constructor's.

    Raises:
        UnknownPredictorError: no accuracy predictor has that name.
        ValueError: the predictor has no such setting.
    """
    return _class_of(name)(space_name).set_params(**settings)


def load(path: str | Path, space: SearchSpace | None = None) -> AccuracyPredictor:
    """Return the predictor saved in a folder; a space given is refused unless it is the predictor's own.

    Raises:
        FileNotFoundError: the folder holds no predictor.
        PredictorFileError: it holds a damaged one, one of latencies, or one of another space.
        ImportError: the package it predicts with is not installed (xgboost; the others need none).
    """
    description = folder.read(path, "accuracy")
    return _class_of(description.name).load(path, description, folder.restored_space(description.space, space))


def _class_of(name: str) -> type[AccuracyPredictor]:
    found: type[AccuracyPredictor] = registry.class_of(name, "accuracy", {**ACCURACY_PREDICTORS, **PUBLISHED}, ENTRY_POINT_GROUP)
    return found
