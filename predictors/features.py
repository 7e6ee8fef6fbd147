"""What learners see of a population: one column for each value of each choice, and the logarithm of the MACs."""

from __future__ import annotations

from typing import Any

import numpy as np

from predictors.population import Flags, Numbers
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Population, SearchSpace


class LogMacs:
    """ln(MACs) of populations."""

    def __init__(self, space: SearchSpace) -> None:
        self._macs = AdditiveCost(space, block_macs)

    def __call__(self, population: Population) -> Numbers:
        """Return the logarithms, shape (n_architectures,)."""
        return np.log(self._macs(population))


def seen_values(space: SearchSpace, population: Population) -> Flags:
    """Return for each column of `space.one_hot` whether any architecture of the population has it."""
    return np.concatenate([np.isin(np.arange(len(c.values)), population[:, i]) for i, c in enumerate(space.choices)])


def fill_unseen(weights: np.ndarray[Any, Any], space: SearchSpace, seen: Flags) -> np.ndarray[Any, Any]:
    """Return first-layer weights, shape (n_values, n_outputs), with rows for the values that training did not see.

    A number between two seen ones (a resolution nobody evaluated) gets the straight line between their rows, one outside
    them the nearest row, a word the mean row. Left alone, those rows would be whatever the learner started from.
    """
    filled = weights.copy()
    start = 0
    for choice in space.choices:
        rows = np.arange(start, start + len(choice.values))
        start += len(choice.values)
        known, unknown = rows[seen[rows]], rows[~seen[rows]]
        if not len(known):
            filled[unknown] = 0
        elif all(isinstance(value, (int, float)) for value in choice.values):
            filled[unknown] = _between(weights[known], _numbers(choice.values, known - rows[0]), _numbers(choice.values, unknown - rows[0]))
        else:
            filled[unknown] = weights[known].mean(axis=0)
    return filled


def _numbers(values: tuple[Any, ...], codes: np.ndarray[Any, np.dtype[np.intp]]) -> Numbers:
    return np.array([values[code] for code in codes], dtype=np.float64)


def _between(rows: np.ndarray[Any, Any], at: Numbers, wanted: Numbers) -> np.ndarray[Any, Any]:
    """Return rows at the wanted numbers, interpolated between rows at ascending or unordered numbers."""
    order = np.argsort(at)
    place = np.interp(wanted, at[order], np.arange(len(at)))
    below = np.floor(place).astype(np.intp)
    above = np.minimum(below + 1, len(at) - 1)
    share = (place - below)[:, None]
    return np.asarray(rows[order][below] * (1 - share) + rows[order][above] * share)
