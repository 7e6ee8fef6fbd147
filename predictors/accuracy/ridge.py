"""Ridge regression on the choices (one column a value) and on log MACs; learns with scikit-learn, predicts with numpy.

Log MACs say what the choices would need hundreds of samples to tell: how big the network is. The penalty is the one of
`alphas` with the least leave-one-out error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from predictors import folder
from predictors.base import AccuracyPredictor, missing_package
from predictors.features import LogMacs, fill_unseen, seen_values
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

ALPHAS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class RidgeAccuracy(AccuracyPredictor):
    """accuracy = intercept + sum of the weights of its values + macs_weight * log MACs.

    After `fit`: `weights_` (n_values,), `macs_weight_`, `intercept_`, `alpha_`.
    """

    name: ClassVar[str] = "ridge"

    def __init__(self, space_name: str, alphas: Sequence[float] = ALPHAS) -> None:
        super().__init__(space_name)
        self.alphas = alphas

    def _check_settings(self) -> None:
        if not len(self.alphas) or min(self.alphas) <= 0:
            raise ValueError(f"alphas of accuracy predictor {self.name!r} are {self.alphas}; expected one or more above 0")

    def _fit(self, space: SearchSpace, population: Population, accuracies: Numbers) -> None:
        try:
            from sklearn.linear_model import RidgeCV
        except ImportError:
            raise missing_package("fitting accuracy predictor 'ridge'", "scikit-learn", "predict") from None
        log_macs = LogMacs(space)
        sizes = log_macs(population)
        centre, spread = float(sizes.mean()), float(sizes.std()) or 1.0  # so that one penalty suits both kinds of column
        columns = np.concatenate([space.one_hot(population, np.float64), ((sizes - centre) / spread)[:, None]], axis=1)
        model = RidgeCV(alphas=np.array(self.alphas, dtype=np.float64)).fit(columns, accuracies)
        self.weights_ = fill_unseen(model.coef_[:-1, None], space, seen_values(space, population))[:, 0]
        self.macs_weight_ = float(model.coef_[-1]) / spread
        self.intercept_ = float(model.intercept_) - self.macs_weight_ * centre
        self.alpha_ = float(model.alpha_)
        self._log_macs_ = log_macs

    def _predict(self, population: Population) -> Numbers:
        return np.asarray(
            self.space_.one_hot(population, np.float64) @ self.weights_ + self.macs_weight_ * self._log_macs_(population) + self.intercept_
        )

    def _files(self) -> dict[str, bytes]:
        arrays = {"weights": self.weights_, "line": np.array([self.macs_weight_, self.intercept_, self.alpha_])}
        return {folder.ARRAYS_FILE: folder.packed_arrays(arrays)}

    def _restore(self, files: Mapping[str, bytes], space: SearchSpace) -> None:
        arrays: dict[str, Any] = folder.unpacked_arrays(files[folder.ARRAYS_FILE])
        self.weights_ = arrays["weights"]
        self.macs_weight_, self.intercept_, self.alpha_ = (float(figure) for figure in arrays["line"])
        self._log_macs_ = LogMacs(space)
