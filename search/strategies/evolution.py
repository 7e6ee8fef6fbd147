"""Evolution after Once-for-All's finder (Cai et al., ICLR 2020): keep the best, mutate some of them, cross others.

Added to it: no network comes twice, and a line of descent that stands still gives way to a new one.
"""

from __future__ import annotations

import math

import numpy as np

from search.genes import genes, random_codes
from search.objectives import Candidates, Figures
from search.settings import SearchSettings
from supernets.space import OFF, Population, SearchSpace

GENTLE_GENES = 1.5  # genes redrawn on average where the settings' mutation found too little: mostly one or two


class Evolution:
    """Breeds from the best networks of the present line of descent.

    A line begins with random networks; where too few of them are fast enough, with small changes of the *founders*: the
    lowest-latency network and the first generation.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> None:
        self._space, self._settings, self._rng = space, settings, rng
        self._n_parents = max(2, round(settings.parent_share * settings.population_size))
        self._genes = genes(space)
        self._gene_of_column = np.zeros(len(space.choices), dtype=np.intp)
        for number, columns in enumerate(self._genes):
            self._gene_of_column[list(columns)] = number
        self._founders = self._parents = Candidates(space.sample_population(0, rng), np.zeros(0), np.zeros(0))
        self._tells = self._asks_since_tell = self._idle = 0
        self._line_begins, self._line_best = True, -math.inf

    def ask(self, count: int) -> Population:
        """Return proposals, shape (count, n_choices): random ones where a line begins, else children of its parents."""
        self._asks_since_tell += 1
        again = self._asks_since_tell > 1
        if not len(self._parents) or (self._line_begins and not again):
            return self._space.sample_population(count, self._rng)
        n_mutated = round(count * self._settings.mutation_share)
        mutated = self._mutated(n_mutated, gentle=again)
        others = self._space.sample_population(count - n_mutated, self._rng) if self._line_begins else self._crossed(count - n_mutated)
        return self._rng.permutation(np.concatenate([mutated, others]))

    def tell(self, scored: Candidates) -> None:
        """Keep the best of this generation and their parents; begin a new line after `patience` generations without a better one."""
        self._tells += 1
        self._asks_since_tell = 0
        if self._tells <= 2:
            self._founders = self._founders.with_more(scored)
        enough = self._line_begins and len(scored) >= self._n_parents
        pool = scored if enough else self._parents.with_more(scored)
        self._parents = pool.take(np.lexsort((pool.latencies_ms, -pool.values))[: self._n_parents])
        best = float(self._parents.values[0]) if len(self._parents) else -math.inf
        self._idle = 0 if best > self._line_best else self._idle + 1
        self._line_begins, self._line_best = False, max(best, self._line_best)
        if self._tells == 1 or self._idle >= self._settings.patience or not len(scored):
            self._begin_line()

    def _begin_line(self) -> None:
        self._line_begins, self._line_best, self._idle = True, -math.inf, 0
        self._parents = self._founders.take(self._rng.permutation(len(self._founders))[: self._n_parents])

    def _drawn_parents(self, count: int) -> Population:
        parents = self._parents.population
        return parents[self._rng.integers(len(parents), size=count)]

    def _mutated(self, count: int, *, gentle: bool) -> Population:
        """Return changed parents: whole genes redrawn, each with its chance; slots switched on by that are drawn too."""
        parents = self._drawn_parents(count)
        chances = np.full(len(self._genes), min(1.0, GENTLE_GENES / len(self._genes))) if gentle else self._chances()
        redrawn = (self._rng.random((count, len(self._genes))) < chances)[:, self._gene_of_column]
        return self._space.switched_off(np.where(redrawn | (parents == OFF), random_codes(self._space, count, self._rng), parents))

    def _chances(self) -> Figures:
        kinds = [self._space.choices[columns[0]].kind for columns in self._genes]
        settings = self._settings
        return np.array([settings.resolution_probability if kind == "resolution" else settings.mutation_probability for kind in kinds])

    def _crossed(self, count: int) -> Population:
        return self._space.crossover_populations(self._drawn_parents(count), self._drawn_parents(count), self._rng)
