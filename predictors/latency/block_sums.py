"""Several figures of each block, summed over the blocks of whole populations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from predictors.population import Numbers
from supernets.blocks import BlockSpec
from supernets.places import places
from supernets.space import Population, SearchSpace


class BlockSums:
    """Sums of `figures(block)`, n_figures numbers, over each network's blocks."""

    def __init__(self, space: SearchSpace, figures: Callable[[BlockSpec], Sequence[float]]) -> None:
        self._places = places(space)
        zeros = [0.0] * len(figures(space.blocks(space.smallest())[0]))  # of a place that is off
        absent = [np.nan] * len(zeros)  # of a combination the space does not allow
        self._figures = [np.array([*(absent if block is None else figures(block) for block in place.blocks), zeros]) for place in self._places]

    def __call__(self, population: Population) -> Numbers:
        """Return the sums, shape (n_architectures, n_figures)."""
        return self._sum(population, self._figures)

    def weighted(self, population: Population, weights: Numbers) -> Numbers:
        """Return `self(population) @ weights`, shape (n_architectures,), without the sums of each figure."""
        return self._sum(population, [figures @ weights for figures in self._figures])

    def _sum(self, population: Population, tables: Sequence[Numbers]) -> Numbers:
        total = np.zeros((len(population), *tables[0].shape[1:]))
        for place, table in zip(self._places, tables, strict=True):
            total += table[place.rows(population)]
        return total
