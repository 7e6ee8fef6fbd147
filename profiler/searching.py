"""Searching with files: tables and predictors in, a subnet file out; and choosing among finalists by measuring them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luts.table import LatencyTable
from predictors import accuracy as accuracy_predictors
from predictors import latency as latency_predictors
from predictors.base import LatencyPredictor
from profiler.subnet import SubnetRecord, record_of
from search.driver import HistoryPoint, SearchResult, search
from search.settings import SearchSettings
from supernets.space import Architecture, Population, SearchSpace

RANDOM_NETWORKS = 1000  # drawn to say what a budget means


@dataclass(frozen=True)
class Predictors:
    """What a search asks: an accuracy (a fraction of one) and a latency (milliseconds) of each architecture."""

    space: SearchSpace
    accuracy: Any
    latency: LatencyPredictor
    condition: dict[str, Any]

    def random_latencies_ms(self, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return predicted latencies of random networks, ascending."""
        return np.sort(self.latency.predict(self.space.sample_population(RANDOM_NETWORKS, np.random.default_rng([seed, RANDOM_NETWORKS]))))


def search_subnet(
    predictors: Predictors, max_latency_ms: float, strategy: str, settings: SearchSettings, seed: int, report: Callable[[HistoryPoint], None]
) -> tuple[SubnetRecord, SearchResult]:
    """Return the best subnet under the budget by the predictors, as a record, with the whole result.

    Raises:
        BudgetError: no network of the space keeps the budget; the text names the lowest latency.
    """
    result = search(predictors.space, predictors.accuracy.predict, predictors.latency.predict, max_latency_ms, strategy, settings, seed, report)
    share = float(np.mean(predictors.random_latencies_ms(seed) > max_latency_ms))
    record = record_of(
        result.best.architecture,
        max_latency_ms=max_latency_ms,
        predicted_latency_ms=result.best.latency_ms,
        predicted_accuracy=result.best.accuracy,
        condition=predictors.condition,
        search={
            "strategy": result.strategy, "seed": seed, "settings": settings.to_dict(), "evaluations": result.evaluations,
            "lowest_latency_ms": result.lowest.latency_ms, "random_networks_over_budget": share,
        },
        finalists=tuple(finalist.to_dict() for finalist in result.finalists),
    )  # fmt: skip
    return record, result


def median_latency_ms(predictors: Predictors, seed: int) -> float:
    """Return a budget that half of the random networks would miss."""
    return float(np.median(predictors.random_latencies_ms(seed)))


def cost_only(space: SearchSpace, population: Population, latency: LatencyPredictor) -> list[tuple[Architecture, float]]:
    """Return each architecture with its predicted latency in milliseconds."""
    return list(zip(space.decode(population), latency.predict(population).tolist(), strict=True))


def open_predictors(table: Path | None, latency: Path | None, accuracy: Path, restriction: Callable[[SearchSpace], SearchSpace]) -> Predictors:
    """Return the predictors of files: the accuracy predictor's folder, and a latency table or a fitted latency predictor.

    Raises:
        ValueError: neither or both of table and latency predictor were given, or one is of another space.
        MissingBlockError: the table lacks blocks of the space.
    """
    if (table is None) == (latency is None):
        raise ValueError("a search needs a latency table (--table FILE) or a fitted latency predictor (--latency FOLDER), one of the two")
    model = accuracy_predictors.load(accuracy)
    space = restriction(model.space)
    if latency is not None:
        fitted = latency_predictors.load(latency)
        return Predictors(space, model, fitted, fitted.condition.to_dict())
    opened = LatencyTable.open(table)
    return Predictors(space, model, latency_predictors.fit_table(space, opened), opened.condition.to_dict())


def architectures_of(result: SearchResult) -> Sequence[Architecture]:
    """Return the finalists' architectures, best first."""
    return [finalist.architecture for finalist in result.finalists]
