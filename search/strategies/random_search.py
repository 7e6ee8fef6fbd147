"""Random search: uniform architectures, the line every other strategy has to beat."""

from __future__ import annotations

import numpy as np

from search.objectives import Candidates
from search.settings import SearchSettings
from supernets.space import Population, SearchSpace


class RandomSearch:
    """Proposes architectures uniformly over slots and learns nothing."""

    def __init__(self, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng

    def ask(self, count: int) -> Population:
        """Return random architectures, shape (count, n_choices)."""
        return self._space.sample_population(count, self._rng)

    def tell(self, scored: Candidates) -> None:
        """Do nothing: every proposal is drawn afresh."""
