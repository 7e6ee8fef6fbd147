"""Coarse to fine, after BigNAS (Yu et al., ECCV 2020, section 3.4): network-wide settings first, then changes of the best.

The coarse set is the product over the kinds of choices (resolution, depth, width, kernel size, ...): each kind takes a few
values between its smallest and its largest, the same way in every stage. Fine, the best network so far is changed at
random, and only a better one takes its place.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from search.genes import random_codes
from search.objectives import Candidates
from search.settings import SearchSettings
from supernets.space import OFF, Population, SearchSpace, unique_rows

MOST_COARSE = 160  # networks: the paper's 5 resolutions, 4 depths, 2 widths and 4 kernel sizes
GRID = 5  # values of a kind at most
MUTATED_CHOICES = 1.5  # on average, where the settings' mutation would change less


class CoarseToFine:
    """Proposes the coarse set, then changes of the best network it was told of."""

    def __init__(self, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> None:
        self._space, self._settings, self._rng = space, settings, rng
        self._coarse = rng.permutation(coarse_set(space))
        self._proposed = 0
        self._best: Population | None = None
        self._highest = -math.inf
        self._asks_since_tell = 0

    def ask(self, count: int) -> Population:
        """Return proposals, shape (count, n_choices); asked again in a generation, as changes of the best are known, random ones among them."""
        left = self._coarse[self._proposed : self._proposed + count]
        self._proposed += len(left)
        self._asks_since_tell += 1
        n_random = (count - len(left)) // 2 if self._asks_since_tell > 1 else 0
        return np.concatenate([left, self._mutated(count - len(left) - n_random), self._space.sample_population(n_random, self._rng)])

    def tell(self, scored: Candidates) -> None:
        """Go on from the best network, if it is better than the one before."""
        self._asks_since_tell = 0
        if len(scored) and scored.values.max() > self._highest:
            row = int(np.argmax(scored.values))
            self._best, self._highest = scored.population[row], float(scored.values[row])

    def _mutated(self, count: int) -> Population:
        if self._best is None:
            return self._space.sample_population(count, self._rng)
        best = np.tile(self._best, (count, 1))
        chance = max(self._settings.mutation_probability, min(1.0, MUTATED_CHOICES / len(self._best)))
        redrawn = self._rng.random(best.shape) < chance
        return self._space.switched_off(np.where(redrawn | (best == OFF), random_codes(self._space, count, self._rng), best))


def coarse_set(space: SearchSpace, most: int = MOST_COARSE) -> Population:
    """Return at most this many different architectures, shape (n, n_choices): each kind of choice at a few network-wide settings."""
    longest = {kind: max(len(c.allowed) for c in space.choices if c.kind == kind) for kind in dict.fromkeys(c.kind for c in space.choices)}
    steps = {kind: min(GRID, length) for kind, length in longest.items()}
    while math.prod(steps.values()) > most:
        widest = max(steps, key=lambda kind: (steps[kind], -longest[kind]))
        steps[widest] -= 1
    rows = []
    for setting in product(*(np.linspace(0, 1, n) if n > 1 else [1.0] for n in steps.values())):
        shares = dict(zip(steps, setting, strict=True))
        rows.append([choice.allowed_codes[round(shares[choice.kind] * (len(choice.allowed) - 1))] for choice in space.choices])
    return unique_rows(space.switched_off(np.array(rows, dtype=np.int8)))
