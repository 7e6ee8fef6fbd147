"""Exhaustive search: every network of a small space, the line that tells how much any other strategy misses."""

from __future__ import annotations

from itertools import islice

import numpy as np

from search.objectives import Candidates
from search.settings import SearchSettings
from supernets.space import Population, SearchSpace

MOST_NETWORKS = 1_000_000


def refuse_large(space: SearchSpace) -> None:
    """Do nothing where every network of the space can be searched.

    Raises:
        ValueError: the space has more than a million networks.
    """
    if space.size() > MOST_NETWORKS:
        raise ValueError(
            f"space {space.name} has {space.size():,} networks, and an exhaustive search takes {MOST_NETWORKS:,} at most; restrict it, "
            "for example by --resolutions, or take another strategy"
        )


class Exhaustive:
    """Proposes all networks in order, and random ones when none are left.

    Raises (constructor):
        ValueError: the space has more than a million networks.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> None:
        refuse_large(space)
        self._space, self._rng = space, rng
        self._left = space.enumerate()

    def ask(self, count: int) -> Population:
        """Return the next architectures, shape (count, n_choices)."""
        found = list(islice(self._left, count))
        rest = self._space.sample_population(count - len(found), self._rng)
        return np.concatenate([self._space.encode(found), rest]) if found else rest

    def tell(self, scored: Candidates) -> None:
        """Do nothing: the order is fixed."""
