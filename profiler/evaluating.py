"""Accuracies and latencies that a search measures instead of predicting them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from luts.condition import Condition
from luts.store import MeasurementStore
from supernets.space import Population, SearchSpace
from supernets.spaces import space as search_space

if TYPE_CHECKING:
    from supernets.training.data import ImageData

Figures: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Asked:
    """What a search asks for accuracies, made of a function from populations to accuracies (0 to 1)."""

    function: Callable[[Population], Figures]

    def predict(self, population: Population) -> Figures:
        """Return the accuracies, shape (n_architectures,)."""
        return self.function(population)


@dataclass
class AskedLatency:
    """What a search asks for latencies, made of a function from populations to milliseconds, all under one condition."""

    function: Callable[[Population], Figures]
    condition: Condition | None

    def predict(self, population: Population) -> Figures:
        """Return the latencies in milliseconds, shape (n_architectures,)."""
        return self.function(population)


@dataclass(frozen=True)
class CalibratedChildren:
    """Measures children on held-out images, as BigNAS does; what its store holds is not measured again, so a killed search goes on."""

    space: SearchSpace
    weights: Path
    images: str
    calibration_images: int
    validation_images: int
    store: MeasurementStore
    workers: int
    device: str = "cpu"

    def predict(self, population: Population) -> Figures:
        """Return the measured accuracies (0 to 1), shape (n_architectures,).

        Raises:
            ValueError, OSError, AccuracyWorkerError: see `profiler.accuracy.evaluate_architectures`.
        """
        from profiler.accuracy import evaluate_architectures

        if not len(population):
            return np.zeros(0)
        rows = evaluate_architectures(
            search_space(self.space.name), self.weights, self._opened, self.space.decode(population), self.store, "validation",
            self.validation_images, self.workers, self.calibration_images, device=self.device,
        )  # fmt: skip
        return np.array([row.top1 for row in rows])

    @cached_property
    def _opened(self) -> ImageData:
        """The images, opened once for all populations."""
        from supernets.training.data import open_images

        return open_images(self.images)
