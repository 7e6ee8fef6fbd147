"""What a search has looked up: no architecture's latency or accuracy is asked for twice, whoever asks.

An *estimate* is any function from a population to one figure an architecture: a predictor, a table sum, a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import numpy as np

from search.objectives import Candidates, Figures
from supernets.space import Population, unique_rows

Estimate: TypeAlias = Callable[[Population], Figures]


class EstimateError(ValueError):
    """An accuracy or latency function returned something else than one finite number an architecture, above zero of latencies."""


def estimated(estimate: Estimate, population: Population, quantity: str) -> Figures:
    """Return the estimate's figures for a population, shape (n,).

    Raises:
        EstimateError: another shape, or a figure that is not a finite number.
    """
    figures = np.asarray(estimate(population), dtype=np.float64)
    if figures.shape != (len(population),):
        raise EstimateError(f"the {quantity} function returned shape {figures.shape} for {len(population)} architectures; expected one number each")
    broken = int(np.count_nonzero(~np.isfinite(figures)))
    if broken:
        raise EstimateError(
            f"the {quantity} of {broken} of {len(population)} architectures is not a finite number; a latency table may lack blocks, "
            "measure them before searching"
        )
    return figures


def row_keys(population: Population) -> list[bytes]:
    """Return one hashable key an architecture; equal rows have equal keys."""
    if not len(population):
        return []
    rows = np.ascontiguousarray(population).view(np.dtype((np.void, population.shape[1]))).ravel()
    return cast("list[bytes]", rows.tolist())


class Scoreboard:
    """Latencies and accuracies looked up so far, and how many of each."""

    def __init__(self, accuracy: Estimate, latency: Estimate) -> None:
        self._accuracy, self._latency = accuracy, latency
        self._latencies_ms: dict[bytes, float] = {}
        self._scored: set[bytes] = set()

    @property
    def evaluations(self) -> int:
        """Number of architectures whose accuracy was looked up."""
        return len(self._scored)

    @property
    def latency_evaluations(self) -> int:
        """Number of architectures whose latency was looked up."""
        return len(self._latencies_ms)

    def latencies_ms(self, population: Population) -> Figures:
        """Return the latencies of a population; only those not known yet are looked up.

        Raises:
            EstimateError: the latency function returned no finite number above zero for an architecture.
        """
        known: Mapping[bytes, float] = self._latencies_ms
        keys = row_keys(population)
        fresh = unique_rows(population[[key not in known for key in keys]]) if keys else population
        if len(fresh):
            found = estimated(self._latency, fresh, "latency")
            if (found <= 0).any():
                raise EstimateError(
                    f"the latency of {np.count_nonzero(found <= 0)} of {len(fresh)} architectures is not above zero, such as {found.min():g} ms; a "
                    "predictor that tells so was fitted to too little: measure more networks, and fit it again"
                )
            self._latencies_ms.update(zip(row_keys(fresh), found.tolist(), strict=True))
        return np.array([known[key] for key in keys], dtype=np.float64)

    def unscored(self, population: Population) -> Population:
        """Return the different architectures of a population that were never scored, in order of first appearance."""
        first: dict[bytes, int] = {}
        for row, key in enumerate(row_keys(population)):
            if key not in self._scored:
                first.setdefault(key, row)
        return population[list(first.values())]

    def score(self, population: Population) -> Candidates:
        """Return candidates of architectures, all different and none scored before.

        Raises:
            EstimateError: a function returned no finite number for an architecture.
            ValueError: an architecture was scored before.
        """
        keys = row_keys(population)
        if len(set(keys) | self._scored) != len(keys) + len(self._scored):
            raise ValueError("an architecture was handed in for scoring twice; pass only what `unscored` returned")
        latencies_ms = self.latencies_ms(population)
        accuracies = estimated(self._accuracy, population, "accuracy")
        self._scored.update(keys)
        return Candidates(population, accuracies, latencies_ms)
