"""Places a block can stand at, each with all blocks that choices can put there: how additive costs meet populations.

A space says which choices decide each place (`block_choices`). Lowering a small set of architectures that runs through
every combination then gives each place a table choice codes → BlockSpec, and any per-block figure becomes a vectorised
look-up over a population.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec
from supernets.counts import block_tensors
from supernets.space import OFF, Architecture, Choice, Population, SearchSpace, Value

UNDECIDED = -2  # of a choice whose code no place has chosen yet

Figures = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Place:
    """A block's place: the columns of a population that decide it, and its block for each combination of their codes.

    `blocks` is in C order over the columns' *full* values (`shape`); combinations a restricted space does not allow are
    None. A choice that another of the place switches (`off_counts`) has one value more, the last, for being off; where any
    other is off there is no block. `absent` holds the positions of combinations at which there is none (its stage is shallower).
    """

    name: str
    columns: tuple[int, ...]
    shape: tuple[int, ...]
    blocks: tuple[BlockSpec | None, ...]
    off_counts: tuple[bool, ...] = ()
    absent: tuple[int, ...] = ()

    def rows(self, population: Population) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the position in `blocks` for each architecture, shape (n_architectures,); len(blocks) where it is off."""
        rows = np.zeros(len(population), dtype=np.intp)
        off = np.zeros(len(population), dtype=bool)
        for column, length, off_counts in itertools.zip_longest(self.columns, self.shape, self.off_counts, fillvalue=False):
            codes = population[:, column]
            rows *= length
            rows += np.where(codes == OFF, length - 1, codes) if off_counts else codes
            if not off_counts:
                off |= codes == OFF
        if self.absent:
            off |= np.isin(rows, self.absent)
        rows[off] = len(self.blocks)
        return rows


@lru_cache(maxsize=8)  # lowering a space of 25 resolutions takes a third of a second, and each predictor of a ladder asks for it
def places(space: SearchSpace) -> tuple[Place, ...]:
    """Return the places of a space in order of execution, each with its blocks."""
    found: dict[str, dict[tuple[int, ...], BlockSpec | None]] = {name: {} for name in space.block_choices}
    columns = {name: tuple(space.position[choice] for choice in choices) for name, choices in space.block_choices.items()}
    architectures = covering_architectures(space)
    order: dict[str, None] = {}
    for row, architecture in zip(space.encode(architectures).tolist(), architectures, strict=True):
        blocks = {block.name: block for block in space.blocks(architecture)}
        order = _merged(order, blocks)
        for name, own in columns.items():
            found[name][tuple(row[column] for column in own)] = blocks.get(name)
    return tuple(_place(space, name, columns[name], found[name]) for name in order)


def _merged(order: dict[str, None], names: Iterable[str]) -> dict[str, None]:
    """Return the names of both in an order that is that of each."""
    new = [name for name in names if name not in order]
    if not new:
        return order
    known, merged = list(order), []
    for name in names:
        if name in order:
            split = known.index(name) + 1
            merged += known[:split]
            known = known[split:]
        else:
            merged.append(name)
    return dict.fromkeys([*merged, *known])


def _place(space: SearchSpace, name: str, columns: tuple[int, ...], found: dict[tuple[int, ...], BlockSpec | None]) -> Place:
    own = {space.choices[column].name for column in columns}
    off_counts = tuple(space.choices[column].depends_on in own for column in columns)
    shape = tuple(len(space.choices[column].values) + off for column, off in zip(columns, off_counts, strict=True))
    positions = {_position(codes, shape): block for codes, block in found.items() if _countable(codes, off_counts)}
    blocks = tuple(positions.get(position) for position in range(math.prod(shape)))
    return Place(name, columns, shape, blocks, off_counts, tuple(position for position, block in positions.items() if block is None))


def _countable(codes: tuple[int, ...], off_counts: tuple[bool, ...]) -> bool:
    return all(code != OFF or off for code, off in zip(codes, off_counts, strict=True))


def _position(codes: tuple[int, ...], shape: tuple[int, ...]) -> int:
    position = 0
    for code, length in zip(codes, shape, strict=True):
        position = position * length + code % length
    return position


def covering_architectures(space: SearchSpace) -> list[Architecture]:
    """Return few architectures in which every place takes every allowed combination of its choices at least once.

    Choices that decide every place (the resolution) run through all their values; for each, the others advance side
    by side, every place one step further than the one before it, so a network mixes sizes as real ones do. Where places
    share a choice (a stage's width), those that lack most combinations choose first.
    """
    names = list(space.block_choices.values())
    shared = [choice for choice in space.choices if names and all(choice.name in choices for choices in names)]
    own = [[c for c in space.choices if c.name in choices and c not in shared] for choices in names]
    base = {choice.name: choice.allowed[-1] for choice in space.choices}
    combinations = [_Combinations(space, choices, offset) for offset, choices in enumerate(own)]
    side_by_side = _side_by_side(space, combinations)
    covering = []
    for common in itertools.product(*(choice.allowed for choice in shared)):
        fixed = dict(zip((choice.name for choice in shared), common, strict=True))
        covering += [space.architecture({**base, **fixed, **values}) for values in side_by_side]
    return list(dict.fromkeys(covering))


def _side_by_side(space: SearchSpace, places_of_space: list[_Combinations]) -> list[dict[str, Value]]:
    """Return values of all choices that decide places, so often that every place has met all its combinations."""
    found: list[dict[str, Value]] = []
    while any(place.lacking.any() for place in places_of_space) or not found:
        chosen = np.full(len(space.choices), UNDECIDED, dtype=np.int16)
        for place in sorted(places_of_space, key=lambda place: -int(np.count_nonzero(place.lacking))):
            place.choose(chosen, len(found))
        found.append({c.name: c.values[code] for c, code in zip(space.choices, chosen.tolist(), strict=True) if code not in (UNDECIDED, OFF)})
    return found


class _Combinations:
    """The combinations of a place's own choices in counting order (the first choice counts fastest), and which are still lacking."""

    def __init__(self, space: SearchSpace, choices: list[Choice], offset: int) -> None:
        self._columns = [space.position[choice.name] for choice in choices]
        self._offset = offset
        grid = itertools.product(*(choice.allowed_codes.tolist() for choice in reversed(choices)))
        rows = dict.fromkeys(_with_switches(choices, codes[::-1]) for codes in grid)
        self._rows = np.array(list(rows), dtype=np.int16).reshape(len(rows), len(choices))
        self.lacking = np.ones(len(rows), dtype=bool)

    def choose(self, chosen: np.ndarray[Any, np.dtype[np.int16]], step: int) -> None:
        """Write the codes of a combination that agrees with what is chosen already into `chosen`: the next one, lacking ones first."""
        before = chosen[self._columns]
        agrees = np.all((before == UNDECIDED) | (self._rows == before) | (self._rows == OFF), axis=1)
        wanted = np.flatnonzero(agrees & self.lacking)
        if not len(wanted):
            wanted = np.flatnonzero(agrees)
        row = int(wanted[np.searchsorted(wanted, (step + self._offset) % len(self._rows)) % len(wanted)])
        self.lacking[row] = False
        for column, code in zip(self._columns, self._rows[row].tolist(), strict=True):
            chosen[column] = code if code != OFF or chosen[column] == UNDECIDED else chosen[column]


def _with_switches(choices: list[Choice], codes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the codes with those choices off that others of the same place switch off."""
    values: dict[str, Value | None] = {}
    for choice, code in zip(choices, codes, strict=True):
        off = choice.depends_on in values and values[choice.depends_on] not in choice.on_for
        values[choice.name] = None if off else choice.values[code]
    return tuple(OFF if value is None else code for value, code in zip(values.values(), codes, strict=True))


def distinct_blocks(space: SearchSpace) -> list[BlockSpec]:
    """Return every block of the space once, whatever its place, in order of first appearance."""
    return list(dict.fromkeys(block for place in places(space) for block in place.blocks if block is not None))


def shared_shapes(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every learned tensor that some network of the space has: each side as long as the longest, so all are slices.

    Those of the largest network come first, in its order; it may lack some (a projection that only narrower networks need).
    """
    sides = [choice for choice in space.choices if choice.kind == "resolution"]
    one_side = space.restrict({choice.name: choice.allowed[-1:] for choice in sides})  # tensors do not depend on it
    blocks = [*space.blocks(space.largest()), *(block for place in places(one_side) for block in place.blocks if block is not None)]
    shapes: dict[str, tuple[int, ...]] = {}
    for block in blocks:
        for name, shape in block_tensors(block).items():
            shapes[name] = tuple(map(max, shape, shapes.get(name, shape)))
    return shapes


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
