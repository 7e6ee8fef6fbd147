"""Boosted trees on the codes of the choices and log MACs; the number of trees is chosen on an inner validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from predictors.base import AccuracyPredictor, missing_package
from predictors.features import LogMacs
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

TREES_FILE = "trees.ubj"
PATIENCE_TREES = 50  # trees without progress on the validation split after which no more are grown


class XgboostAccuracy(AccuracyPredictor):
    """Trees grown one upon another's error; `max_trees` bounds their number, `threads` is how many cores learn and predict.

    After `fit`: `booster_`, `tree_count_`.
    """

    name: ClassVar[str] = "xgboost"

    def __init__(
        self, space_name: str, max_trees: int = 2000, max_depth: int = 3, learning_rate: float = 0.05, validation_share: float = 0.2, seed: int = 0,
        threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(space_name)
        self.max_trees = max_trees
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.validation_share = validation_share
        self.seed = seed
        self.threads = threads

    def _check_settings(self) -> None:
        for setting in ("max_trees", "max_depth", "threads"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} of accuracy predictor {self.name!r} is {getattr(self, setting)}; expected at least 1")
        for setting in ("learning_rate", "validation_share"):
            if not 0 < getattr(self, setting) < 1:
                raise ValueError(f"{setting} of accuracy predictor {self.name!r} is {getattr(self, setting)}; expected between 0 and 1")

    def _fit(self, space: SearchSpace, population: Population, accuracies: Numbers) -> None:
        xgboost = _xgboost("fitting")
        self._log_macs_ = LogMacs(space)
        columns = self._columns(population)
        order = np.random.default_rng(self.seed).permutation(len(columns))
        held, kept = np.split(order, [max(1, round(self.validation_share * len(order)))])
        settings = {
            "max_depth": self.max_depth, "learning_rate": self.learning_rate, "subsample": 0.8, "colsample_bytree": 0.5, "min_child_weight": 3,
            "base_score": float(accuracies.mean()), "nthread": self.threads, "seed": self.seed, "verbosity": 0,
        }  # fmt: skip
        kept_data, held_data = (xgboost.DMatrix(columns[rows], accuracies[rows], nthread=self.threads) for rows in (kept, held))
        trial = xgboost.train(
            settings, kept_data, self.max_trees, evals=[(held_data, "held")], early_stopping_rounds=PATIENCE_TREES, verbose_eval=False
        )
        self.tree_count_ = int(trial.best_iteration) + 1
        self.booster_ = xgboost.train(settings, xgboost.DMatrix(columns, accuracies, nthread=self.threads), self.tree_count_)

    def _columns(self, population: Population) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.concatenate([population, self._log_macs_(population)[:, None]], axis=1, dtype=np.float32)

    def _predict(self, population: Population) -> Numbers:
        return np.asarray(self.booster_.inplace_predict(self._columns(population)), dtype=np.float64).reshape(len(population))

    @classmethod
    def _file_names(cls) -> tuple[str, ...]:
        return (TREES_FILE,)

    def _files(self) -> dict[str, bytes]:
        return {TREES_FILE: bytes(self.booster_.save_raw("ubj"))}

    def _restore(self, files: Mapping[str, bytes], space: SearchSpace) -> None:
        xgboost = _xgboost("loading")
        self._log_macs_ = LogMacs(space)
        self.booster_ = xgboost.Booster({"nthread": self.threads})
        self.booster_.load_model(bytearray(files[TREES_FILE]))
        self.tree_count_ = int(self.booster_.num_boosted_rounds())


def _xgboost(doing: str) -> Any:
    try:
        import xgboost
    except ImportError:
        raise missing_package(f"{doing} accuracy predictor 'xgboost'", "xgboost-cpu", "xgboost") from None
    return xgboost
