"""Places a block can stand at, each with all blocks that choices can put there: how additive costs meet populations.

A space says which choices decide each place (`block_choices`). Lowering a small set of architectures that runs through
every combination then gives each place a table choice codes → BlockSpec, and any per-block figure becomes a vectorised
look-up over a population.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec
from supernets.space import OFF, Architecture, Choice, Population, SearchSpace

Figures = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Place:
    """A block's place: the columns of a population that decide it, and its block for each combination of their codes.

    `blocks` is in C order over the columns' *full* values (`shape`); combinations a restricted space does not allow are
    None.
    """

    name: str
    columns: tuple[int, ...]
    shape: tuple[int, ...]
    blocks: tuple[BlockSpec | None, ...]

    def rows(self, population: Population) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the position in `blocks` for each architecture, shape (n_architectures,); len(blocks) where it is off."""
        rows = np.zeros(len(population), dtype=np.intp)
        for column, length in zip(self.columns, self.shape, strict=True):
            rows *= length
            rows += population[:, column]
        off = np.zeros(len(population), dtype=bool)
        for column in self.columns:
            off |= population[:, column] == OFF
        rows[off] = len(self.blocks)
        return rows


@lru_cache(maxsize=8)  # lowering a space of 25 resolutions takes a third of a second, and each predictor of a ladder asks for it
def places(space: SearchSpace) -> tuple[Place, ...]:
    """Return the places of a space in order of execution, each with its blocks."""
    found: dict[str, dict[tuple[int, ...], BlockSpec]] = {name: {} for name in space.block_choices}
    columns = {name: tuple(space.position[choice] for choice in choices) for name, choices in space.block_choices.items()}
    architectures = covering_architectures(space)
    for row, architecture in zip(space.encode(architectures).tolist(), architectures, strict=True):
        for block in space.blocks(architecture):
            found[block.name][tuple(row[column] for column in columns[block.name])] = block
    order = [block.name for block in space.blocks(space.largest())]
    return tuple(_place(space, name, columns[name], found[name]) for name in order)


def _place(space: SearchSpace, name: str, columns: tuple[int, ...], found: dict[tuple[int, ...], BlockSpec]) -> Place:
    shape = tuple(len(space.choices[column].values) for column in columns)
    blocks = tuple(found.get(codes) for codes in itertools.product(*(range(length) for length in shape)))
    return Place(name, columns, shape, blocks)


def covering_architectures(space: SearchSpace) -> list[Architecture]:
    """Return few architectures in which every place takes every allowed combination of its choices at least once.

    Choices that decide several places (the resolution) run through all their values; for each, the others advance side
    by side, every place one step further than the one before it, so a network mixes sizes as real ones do.
    """
    uses = [name for choices in space.block_choices.values() for name in choices]
    shared = [choice for choice in space.choices if uses.count(choice.name) > 1]
    private = {place: [c for c in space.choices if c.name in choices and c not in shared] for place, choices in space.block_choices.items()}
    steps = max(math.prod(len(choice.allowed) for choice in choices) for choices in private.values())
    base = {choice.name: choice.allowed[-1] for choice in space.choices}
    covering = []
    for common in itertools.product(*(choice.allowed for choice in shared)):
        for step in range(steps):
            values = {**base, **dict(zip((choice.name for choice in shared), common, strict=True))}
            for offset, choices in enumerate(private.values()):
                values.update(_combination(choices, step + offset))
            covering.append(space.architecture(values))
    return list(dict.fromkeys(covering))


def _combination(choices: list[Choice], number: int) -> dict[str, Any]:
    """Return the combination of the choices' values with this number, counting round."""
    values = {}
    for choice in choices:
        number, code = divmod(number, len(choice.allowed))
        values[choice.name] = choice.allowed[code]
    return values


def distinct_blocks(space: SearchSpace) -> list[BlockSpec]:
    """Return every block of the space once, whatever its place, in order of first appearance."""
    return list(dict.fromkeys(block for place in places(space) for block in place.blocks if block is not None))


class AdditiveCost:
    """Sums a per-block figure over populations; a block without a figure may be given as NaN, which then shows in the sum."""

    def __init__(self, space: SearchSpace, figure: Callable[[BlockSpec], float]) -> None:
        self._places = places(space)
        cache: dict[BlockSpec | None, float] = {None: math.nan}
        self._figures: list[Figures] = []
        for place in self._places:
            for block in place.blocks:
                if block is not None and block not in cache:
                    cache[block] = figure(block)
            self._figures.append(np.array([*(cache[block] for block in place.blocks), 0.0]))

    def __call__(self, population: Population) -> Figures:
        """Return the sums, shape (n_architectures,)."""
        total = np.zeros(len(population))
        for place, figures in zip(self._places, self._figures, strict=True):
            total += figures[place.rows(population)]
        return total
