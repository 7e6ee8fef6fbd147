"""Boosted trees on what the terms leave over; worth their while with hundreds of networks, if then.

A leaf needs some networks, so that with few of them no tree splits and the terms stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from luts.condition import Condition
from predictors.base import missing_package
from predictors.folder import Arrays, PredictorFileError
from predictors.latency.terms import Terms
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

TREES = 100
SETTINGS = {"max_depth": 2, "learning_rate": 0.05, "min_child_weight": 5, "base_score": 0.0, "nthread": 1, "seed": 0, "verbosity": 0}


class GradientBoosting(Terms):
    """latency_ms = terms * exp(trees), over the logarithms of the table sum and of each term's share of it."""

    name: ClassVar[str] = "gradient_boosting"
    _trees: Any = None  # xgboost.Booster

    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        xgboost = _xgboost("fitting")
        super()._fit(population, latencies_ms)
        left_over = np.log(latencies_ms / super()._predict(population))
        self._trees = xgboost.train(SETTINGS, xgboost.DMatrix(self._log_shares(population), left_over, nthread=1), TREES)

    def _predict(self, population: Population) -> Numbers:
        terms_ms = super()._predict(population)
        if self._trees is None or not len(population):
            return terms_ms
        return terms_ms * np.exp(np.asarray(self._trees.inplace_predict(self._log_shares(population)), dtype=np.float64))

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        trees = b"" if self._trees is None else bytes(self._trees.save_raw("ubj"))
        return {**super()._arrays(), "trees_ubj": np.frombuffer(trees, dtype=np.uint8)}

    @classmethod
    def _restored(cls, space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> GradientBoosting:
        xgboost = _xgboost("loading")
        predictor = super()._restored(space, condition, settings, arrays)
        predictor._trees = xgboost.Booster({"nthread": 1})
        try:
            predictor._trees.load_model(bytearray(arrays["trees_ubj"].tobytes()))
        except xgboost.core.XGBoostError as error:
            raise PredictorFileError(f"the trees of latency predictor {cls.name!r} cannot be read: {error}; fit the predictor again") from None
        return predictor


def _xgboost(doing: str) -> Any:
    try:
        import xgboost
    except ImportError:
        raise missing_package(f"{doing} latency predictor 'gradient_boosting'", "xgboost-cpu", "xgboost") from None
    return xgboost
