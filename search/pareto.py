"""Pareto sets: who is beaten by nobody. Costs are arrays (n, n_costs) in which less is better in every column."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.objectives import Candidates, Figures, Indices


def non_dominated(costs: np.ndarray[Any, Any]) -> Indices:
    """Return the rows no other row beats or equals everywhere, in order of their first cost; of equal rows the first stays.

    Raises:
        ValueError: costs are not a matrix, or one is not a number.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or np.isnan(costs).any():
        raise ValueError(f"costs have the shape {costs.shape} and {int(np.isnan(costs).sum())} that are not numbers; expected a matrix of numbers")
    left = np.lexsort(costs.T[::-1])  # the first of what is left is never beaten by a later one
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[(costs[left] < costs[left[0]]).any(axis=1)]
    return np.array(kept, dtype=np.intp)


def costs(candidates: Candidates) -> Figures:
    """Return the costs of candidates, shape (n, 2): latency, and accuracy lost."""
    return np.stack([candidates.latencies_ms, -candidates.accuracies], axis=1)


class ParetoArchive:
    """The accuracy-latency front of all candidates added so far."""

    def __init__(self) -> None:
        self._front: Candidates | None = None

    def add(self, candidates: Candidates) -> None:
        """Take in candidates; those on the front stay."""
        pool = candidates if self._front is None else self._front.with_more(candidates)
        self._front = pool.take(non_dominated(costs(pool)))

    @property
    def front(self) -> Candidates:
        """The front, lowest latency first.

        Raises:
            ValueError: nothing was added yet.
        """
        if self._front is None:
            raise ValueError("the Pareto archive is empty; add candidates before reading its front")
        return self._front
