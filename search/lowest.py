"""The lowest reachable latency, found before a search begins: descent along genes, many starts side by side.

Nothing is assumed of the latency function, but where it is a sum over blocks (or rises with such a sum) the result is
exact: for every value of what blocks share, one sweep brings each block to its own minimum, and then each depth. Spaces
whose blocks share more than MAX_SHARED combinations (choices of whole stages) get a descent only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.genes import Columns, controllers, genes, n_options, options, random_codes, shared
from search.objectives import Figures
from supernets.space import Population, SearchSpace

MAX_SHARED = 256  # combinations of shared choices each given starts of their own; OFA has 25 resolutions
MAX_OPTIONS = 512  # of one gene tried at once; larger genes are tried slot by slot
RANDOM_STARTS = 8
MAX_SWEEPS = 20


def lowest_latency(space: SearchSpace, latency: Callable[[Population], Figures], rng: np.random.Generator) -> Population:
    """Return the architecture of the lowest latency found, shape (1, n_choices)."""
    codes = _starts(space, rng)
    lowest_ms = latency(space.switched_off(codes))
    for _ in range(MAX_SWEEPS):
        before_ms = lowest_ms
        for columns in _tried_at_once(space):
            codes, lowest_ms = _best_options(space, latency, codes, lowest_ms, columns)
        if np.array_equal(lowest_ms, before_ms):
            break
    return space.switched_off(codes[[np.argmin(lowest_ms)]])


def _starts(space: SearchSpace, rng: np.random.Generator) -> Population:
    """Return, for each combination of what blocks share, the smallest network and the smallest blocks at full depth; and random ones."""
    smallest = np.array([choice.allowed_codes[0] for choice in space.choices], dtype=np.int8)
    deepest = smallest.copy()
    for column in controllers(space):
        deepest[column] = space.choices[column].allowed_codes[-1]
    common: Columns = ()
    for column in shared(space):
        if n_options(space, (*common, column)) <= MAX_SHARED:
            common = (*common, column)
    combinations = options(space, common)
    starts = np.repeat(np.stack([deepest, smallest]), len(combinations), axis=0)
    starts[:, common] = np.tile(combinations, (2, 1))
    return np.concatenate([starts, random_codes(space, RANDOM_STARTS, rng)])


def _tried_at_once(space: SearchSpace) -> list[Columns]:
    found: list[Columns] = []
    for columns in genes(space):
        found += [columns] if n_options(space, columns) <= MAX_OPTIONS else [(column,) for column in columns]
    return found


def _best_options(
    space: SearchSpace, latency: Callable[[Population], Figures], codes: Population, lowest_ms: Figures, columns: Columns
) -> tuple[Population, Figures]:
    """Return each start's codes with the best combination of these columns put in, and its latency; ties keep what is there."""
    combinations = options(space, columns)
    trials = np.repeat(codes, len(combinations), axis=0)
    trials[:, columns] = np.tile(combinations, (len(codes), 1))
    trials_ms = latency(space.switched_off(trials)).reshape(len(codes), len(combinations))
    choice = trials_ms.argmin(axis=1)
    found_ms = trials_ms[np.arange(len(codes)), choice]
    better = found_ms < lowest_ms
    changed = codes.copy()
    changed[np.ix_(better, columns)] = combinations[choice[better]]
    return changed, np.where(better, found_ms, lowest_ms)
