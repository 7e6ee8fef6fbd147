"""Which slots of a space move together: a *gene* is a set of columns of a population redrawn or tried as one.

The slots that only one block reads are one gene (its kernel size and expand ratio: each is as good as the other lets it
be); every other choice is its own.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from supernets.space import Population, SearchSpace

Columns = tuple[int, ...]


def controllers(space: SearchSpace) -> list[int]:
    """Return the columns of choices that switch others on and off, the deepest dependants first."""
    names = {choice.depends_on for choice in space.choices if choice.depends_on is not None}
    return [space.position[choice.name] for choice in reversed(space.choices) if choice.name in names]


def shared(space: SearchSpace) -> list[int]:
    """Return the columns of choices that decide more than one block (the resolution), most blocks first; controllers are none."""
    uses = Counter(name for names in space.block_choices.values() for name in set(names))
    apart = set(controllers(space))
    return [space.position[name] for name, count in uses.most_common() if count > 1 and space.position[name] not in apart]


def genes(space: SearchSpace) -> list[Columns]:
    """Return the genes: those of blocks in order of execution, then controllers, then all that is left, one column each."""
    apart = {*controllers(space), *shared(space)}
    blocks = [tuple(space.position[name] for name in names if space.position[name] not in apart) for names in space.block_choices.values()]
    together = [columns for columns in blocks if columns]
    covered = {column for columns in together for column in columns} | set(controllers(space))
    alone = [*controllers(space), *(column for column in range(len(space.choices)) if column not in covered)]
    return together + [(column,) for column in alone]


def random_codes(space: SearchSpace, count: int, rng: np.random.Generator) -> Population:
    """Return allowed codes for every slot, those that are off in canonical form included, shape (count, n_choices)."""
    lengths = np.array([len(choice.allowed_codes) for choice in space.choices])
    allowed = np.zeros((len(lengths), max(lengths)), dtype=np.int8)
    for column, choice in enumerate(space.choices):
        allowed[column, : lengths[column]] = choice.allowed_codes
    drawn: Population = allowed[np.arange(len(lengths)), rng.integers(lengths, size=(count, len(lengths)))]
    return drawn


def options(space: SearchSpace, columns: Columns) -> Population:
    """Return every allowed combination of these columns' codes, shape (n_combinations, n_columns)."""
    grids = np.meshgrid(*(space.choices[column].allowed_codes for column in columns), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1) if grids else np.zeros((1, 0), dtype=np.int8)


def n_options(space: SearchSpace, columns: Columns) -> int:
    """Return the number of allowed combinations of these columns."""
    return math.prod(len(space.choices[column].allowed) for column in columns)
