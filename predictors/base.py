"""The contracts of latency and of accuracy predictors; units: float64 milliseconds, accuracies as shares 0 to 1.

Accuracy predictors keep scikit-learn's estimator contract (constructor stores only, validation in `fit`, learned
attributes end in _), so `clone`, `cross_val_score` and searches over settings work, without importing scikit-learn.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from luts.condition import Condition
from predictors import folder
from predictors.cross_validation import CrossValidation, cross_validate
from predictors.folder import Arrays, Description
from predictors.population import Numbers, PopulationCheck, checked_figures
from predictors.quality import AccuracyQuality, LatencyQuality
from supernets import spaces
from supernets.space import Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

AnyLatency = TypeVar("AnyLatency", bound="LatencyPredictor")
AnyAccuracy = TypeVar("AnyAccuracy", bound="AccuracyPredictor")

LONGEST_MS = 1e9  # a latency beyond eleven days is a unit mistaken
LEAST_MS = 1e-6  # no network takes less than a nanosecond, and ratios to what is predicted stay finite
ERRORS = "cross_validation"  # the array that holds them in a saved predictor


class NotFittedError(ValueError, AttributeError):
    """A predictor was asked for figures before `fit`."""


class MissingPackageError(ImportError):
    """A predictor needs a package that is not installed."""


def missing_package(feature: str, package: str, extra: str) -> MissingPackageError:
    """Return the error for a package that an extra of ours would install."""
    return MissingPackageError(f"{feature} needs the package {package!r}; install it with pip install 'elastic-latency[{extra}]'")


class LatencyPredictor(ABC):
    """Predicts the latency of populations of one (restricted) space under one condition.

    `cross_validation` holds the errors on the networks of `fit`, each predicted by fits without it; None before `fit` and with
    one network. `quality` is set by whoever judges the predictor, and goes back to None with each `fit`.
    """

    name: ClassVar[str]

    def __init__(self, space: SearchSpace, condition: Condition | None = None) -> None:
        self.space = space
        self.condition = condition
        self.quality: LatencyQuality | None = None
        self.cross_validation: CrossValidation | None = None
        self._checked = PopulationCheck(space)

    @classmethod
    @abstractmethod
    def create(cls: type[AnyLatency], space: SearchSpace, table: LatencyTable | None) -> AnyLatency:
        """Return a predictor for the space that takes what it needs from the table; see `predictors.latency.create`."""

    def fit(self: AnyLatency, population: Population, latencies_ms: Numbers) -> AnyLatency:
        """Fit to whole networks and return the predictor itself.

        Raises:
            ValueError: a population of another space, a latency that is not above zero, or none at all.
        """
        codes = self._checked(population)
        measured_ms = checked_figures(latencies_ms, len(codes), "latencies_ms", np.finfo(np.float64).tiny, LONGEST_MS)
        if not len(codes):
            raise ValueError(f"latency predictor {self.name!r} was given 0 networks; expected at least one")
        self.quality = None
        self._fit(codes, measured_ms)
        self.cross_validation = cross_validate(self._fit_and_predict, codes, measured_ms)
        return self

    def _fit_and_predict(self, population: Population, latencies_ms: Numbers, others: Population) -> Numbers:
        """Return what this predictor, fitted to these networks instead, predicts of others."""
        another = copy.copy(self)
        another._fit(population, latencies_ms)
        return another._predict(others)

    def predict(self, population: Population) -> Numbers:
        """Return the latency of each architecture in milliseconds, shape (n_architectures,); a nanosecond where a fit to few networks falls below.

        Raises:
            NotFittedError: the predictor was not fitted.
            ValueError: a population of another space, or an architecture that the space does not allow.
        """
        return np.maximum(self._predict(self._checked(population)), LEAST_MS)

    def predict_interval(self, population: Population, coverage: float = 0.9) -> tuple[Numbers, Numbers]:
        """Return the lower and upper limits, (n_architectures,) each, between which this share of measured latencies lies.

        Raises:
            NotFittedError: the predictor was not fitted to two networks or more, so nothing is known of its errors.
            ValueError: as `predict`, or a coverage outside 0 to 1.
        """
        predicted_ms = self.predict(population)
        if self.cross_validation is None:
            raise NotFittedError(f"latency predictor {self.name!r} knows no errors of its own; fit it to at least 2 networks for intervals")
        return self.cross_validation.interval(predicted_ms, coverage)

    def save(self, path: str | Path) -> None:
        """Write the predictor into a folder, to be read with `predictors.latency.load`.

        Raises:
            NotFittedError: the predictor was not fitted.
        """
        description = Description(
            family="latency", name=self.name, space=folder.space_to_dict(self.space), settings=self._settings(),
            condition=None if self.condition is None else self.condition.to_dict(),
            quality=None if self.quality is None else self.quality.to_dict(),
        )  # fmt: skip
        arrays = self._arrays()
        if self.cross_validation is not None:
            arrays[ERRORS] = self.cross_validation.log_ratios
        folder.write(path, description, {folder.ARRAYS_FILE: folder.packed_arrays(arrays)})

    @classmethod
    def load(cls: type[AnyLatency], path: str | Path, description: Description, space: SearchSpace) -> AnyLatency:
        """Return the predictor saved in a folder, whose description and space were read; see `predictors.latency.load`.

        Raises:
            PredictorFileError: the files beside the description are absent, damaged, or not of this space.
        """
        arrays = folder.unpacked_arrays(folder.read_file(path, description, folder.ARRAYS_FILE))
        condition = None if description.condition is None else Condition.from_dict(description.condition)
        try:
            predictor = cls._restored(space, condition, description.settings, arrays)
        except (KeyError, TypeError) as error:
            raise folder.damaged(path, error) from error
        predictor.quality = None if description.quality is None else LatencyQuality.from_dict(description.quality)
        predictor.cross_validation = CrossValidation(arrays[ERRORS]) if ERRORS in arrays else None
        return predictor

    @abstractmethod
    def _fit(self, population: Population, latencies_ms: Numbers) -> None:
        """Fit to checked figures, by setting attributes: what they held before may be shared with another predictor."""

    @abstractmethod
    def _predict(self, population: Population) -> Numbers:
        """Return latencies of a checked population."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Return what a JSON file must hold to restore the predictor."""

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what an npz file must hold to restore the predictor."""
        return {}

    @classmethod
    @abstractmethod
    def _restored(cls: type[AnyLatency], space: SearchSpace, condition: Condition | None, settings: Mapping[str, Any], arrays: Arrays) -> AnyLatency:
        """Return the predictor that `_settings` and `_arrays` describe."""


class AccuracyPredictor(ABC):
    """Predicts the accuracy of populations of the space with this name; X is (n_architectures, n_choices), codes as in a population.

    After `fit`: `space_`, `n_features_in_`, and `quality_`, which is None until the predictor is judged on networks held out.
    """

    name: ClassVar[str]
    _estimator_type: ClassVar[str] = "regressor"  # for scikit-learn before 1.6

    def __init__(self, space_name: str) -> None:
        self.space_name = space_name

    def fit(self: AnyAccuracy, X: Population, y: Numbers) -> AnyAccuracy:
        """Fit to measured accuracies (0 to 1) and return the predictor itself.

        Raises:
            ValueError: a setting out of range, a population of another space, fewer than two architectures, or an accuracy that is
                not a share.
            UnknownSpaceError: no space has that name.
            ImportError: the package it learns with is not installed.
        """
        self._check_settings()
        space = spaces.space(self.space_name)
        check = PopulationCheck(space)
        population = check(X)
        accuracies = checked_figures(y, len(population), "accuracies (shares; divide per cent by 100)", 0.0, 1.0)
        if len(population) < 2:
            raise ValueError(f"accuracy predictor {self.name!r} was given {len(population)} architectures; expected at least 2")
        self._fit(space, population, accuracies)
        self._set_space(space, check)
        return self

    def _set_space(self, space: SearchSpace, check: PopulationCheck) -> None:
        self.space_ = space
        self.n_features_in_ = len(space.choices)
        self.quality_: AccuracyQuality | None = None
        self._checked_ = check

    def predict(self, X: Population) -> Numbers:
        """Return the predicted accuracy of each architecture (0 to 1), shape (n_architectures,).

        Raises:
            NotFittedError: the predictor was not fitted.
            ValueError: a population of another space.
        """
        self._check_fitted()
        return self._predict(self._checked_(X))

    def score(self, X: Population, y: Numbers) -> float:
        """Return the coefficient of determination, 1 = perfect, 0 = no better than the mean: what scikit-learn scores regressors with."""
        predicted = self.predict(X)
        measured = checked_figures(y, len(predicted), "accuracies (shares; divide per cent by 100)", 0.0, 1.0)
        spread = float(((measured - measured.mean()) ** 2).sum())
        return 1.0 - float(((measured - predicted) ** 2).sum()) / spread if spread > 0 else float("nan")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self: AnyAccuracy, **settings: Any) -> AnyAccuracy:
        """Set constructor arguments and return the predictor itself.

        Raises:
            ValueError: the predictor has no such setting.
        """
        known = self.get_params()
        for name, value in settings.items():
            if name not in known:
                raise ValueError(f"accuracy predictor {self.name!r} has no setting {name!r}; its settings are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "space_")

    def __sklearn_tags__(self) -> Any:
        # only scikit-learn 1.6 and later calls this, so the import never brings it in
        utils = importlib.import_module("sklearn.utils")
        return utils.Tags(estimator_type="regressor", target_tags=utils.TargetTags(required=True), regressor_tags=utils.RegressorTags())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def save(self, path: str | Path) -> None:
        """Write the fitted predictor into a folder, to be read with `predictors.accuracy.load`.

        Raises:
            NotFittedError: the predictor was not fitted.
        """
        self._check_fitted()
        description = Description(
            family="accuracy", name=self.name, space=folder.space_to_dict(self.space_), settings=self.get_params(),
            quality=None if self.quality_ is None else self.quality_.to_dict(),
        )  # fmt: skip
        folder.write(path, description, self._files())

    @classmethod
    def load(cls: type[AnyAccuracy], path: str | Path, description: Description, space: SearchSpace) -> AnyAccuracy:
        """Return the predictor saved in a folder, whose description and space were read; see `predictors.accuracy.load`.

        Raises:
            PredictorFileError: the files beside the description are absent or damaged.
            ValueError: the description holds a setting that the predictor does not have.
            ImportError: the package it predicts with is not installed.
        """
        predictor = cls(space.name).set_params(**{**description.settings, "space_name": space.name})
        predictor._restore({name: folder.read_file(path, description, name) for name in cls._file_names()}, space)
        predictor._set_space(space, PopulationCheck(space))
        predictor.quality_ = None if description.quality is None else AccuracyQuality.from_dict(description.quality)
        return predictor

    def _check_fitted(self) -> None:
        if not hasattr(self, "space_"):
            raise NotFittedError(f"accuracy predictor {self.name!r} was not fitted; call fit(population, accuracies) first")

    @abstractmethod
    def _check_settings(self) -> None:
        """Raise ValueError for a setting out of range."""

    @abstractmethod
    def _fit(self, space: SearchSpace, population: Population, accuracies: Numbers) -> None:
        """Learn from checked figures."""

    @abstractmethod
    def _predict(self, population: Population) -> Numbers:
        """Return accuracies of a checked population."""

    @classmethod
    def _file_names(cls) -> tuple[str, ...]:
        """Return the files that hold what was learned."""
        return (folder.ARRAYS_FILE,)

    @abstractmethod
    def _files(self) -> dict[str, bytes]:
        """Return the content of each file."""

    @abstractmethod
    def _restore(self, files: Mapping[str, bytes], space: SearchSpace) -> None:
        """Set what was learned from the files' content."""
