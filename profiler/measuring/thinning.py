"""Measuring some resolutions of a space in full, and interpolating the blocks of the others: which, how checked, what is measured after all.

Blocks are measured in chains of whole subnets, so what is chosen are subnets. Sides are rounded up at each stride, so
resolutions share the blocks of deep stages: those chosen are spread over the area, and cover many different sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import Any

import numpy as np

from luts.estimates import NANOSECONDS_A_MILLISECOND
from luts.interpolation import SIDE, interpolate
from supernets.blocks import BlockSpec
from supernets.places import covering_architectures, distinct_blocks
from supernets.space import Architecture, Choice, SearchSpace

MOST_GROWTH = 1.6  # of the area from one resolution measured in full to the next, as far as the space's values allow
CHECKED_SHARE = 0.05  # of the skipped blocks, at least
TOLERANCE = 0.03  # of a spot check: what misses by more is measured


@dataclass(frozen=True)
class SpotCheck:
    """A skipped block that was measured to see how far off its interpolation is; `between` are the sides that rests on."""

    block: BlockSpec
    between: tuple[int, int]
    interpolated_ms: float
    measured_ms: float

    @property
    def miss(self) -> float:
        """How far the interpolation is above the measurement, relative to it."""
        return self.interpolated_ms / self.measured_ms - 1

    @property
    def missed(self) -> bool:
        """Whether that is more than tolerated."""
        return abs(self.miss) > TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return the check as a JSON-serialisable mapping."""
        return {"block": self.block.key, "between": list(self.between), "interpolated_ms": self.interpolated_ms, "measured_ms": self.measured_ms}


@dataclass(frozen=True)
class Thinning:
    """The resolutions of a space that are measured in full, and the random subnets of others that check the interpolation."""

    space: SearchSpace
    resolutions: tuple[int, ...]
    checks: tuple[Architecture, ...]

    @cached_property
    def blocks(self) -> frozenset[BlockSpec]:
        """The blocks of the resolutions measured in full."""
        return frozenset(distinct_blocks(_at(self.space, *self.resolutions)))

    @cached_property
    def skipped(self) -> tuple[BlockSpec, ...]:
        """The other blocks of the space."""
        return tuple(block for block in distinct_blocks(self.space) if block not in self.blocks)

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """The subnets whose blocks are measured first: they cover the resolutions measured in full, and make the checks."""
        return (*covering_architectures(_at(self.space, *self.resolutions)), *self.checks)

    def spot_checks(self, latencies_ms: Mapping[BlockSpec, float]) -> list[SpotCheck]:
        """Return the measured checks against what the resolutions measured in full say of them."""
        in_full = {block: latency_ms for block, latency_ms in latencies_ms.items() if block in self.blocks}
        taken = [block for check in self.checks for block in self.space.blocks(check)]
        checked = {block.key: block for block in taken if block in latencies_ms and block not in self.blocks}
        sides = {block.key: block.input_side for block in in_full}
        found = []
        for figure in interpolate(in_full, checked.values(), "chain"):
            block, (low, high) = checked[figure.key], figure.source["blocks"]
            found.append(SpotCheck(block, (sides[low], sides[high]), figure.latency_ns / NANOSECONDS_A_MILLISECOND, latencies_ms[block]))
        return found

    def further(self, checks: Sequence[SpotCheck]) -> tuple[Architecture, ...]:
        """Return few subnets that hold what checks missed: the block at all skipped sides between those its interpolation rests on."""
        doubted = [(SIDE.family(check.block), check.between) for check in checks if check.missed]
        made = {check.block for check in checks}
        needed = {
            block for block in self.skipped for family, (low, high) in doubted
            if low < block.input_side < high and block not in made and SIDE.family(block) == family
        }  # fmt: skip
        skipped = [value for value in _resolutions(self.space) if value not in self.resolutions]
        return tuple(architecture for value in skipped for architecture in _holding(needed, _at(self.space, value)))


def thin(space: SearchSpace, seed: int = 0) -> Thinning:
    """Return which resolutions of a space to measure in full, and random subnets of the others for at least 5 % of the skipped blocks.

    Raises:
        ValueError: the space has no resolutions that could be skipped.
    """
    thinning = Thinning(space, thinned_resolutions(space), ())
    skipped = [value for value in _resolutions(space) if value not in thinning.resolutions]
    if not skipped:
        values = ", ".join(map(str, _resolutions(space)))
        raise ValueError(f"none of the resolutions {values} of space {space.name} can be interpolated from the others; collect it without --thin")
    rng = np.random.default_rng([seed, len(thinning.skipped)])
    wanted, checked, checks = CHECKED_SHARE * len(thinning.skipped), set[BlockSpec](), list[Architecture]()
    for value in cycle(rng.permutation(skipped).tolist()):
        own = _at(space, value)
        checks += own.decode(own.sample_different(1, rng))
        checked.update(block for block in space.blocks(checks[-1]) if block not in thinning.blocks)
        if len(checked) >= wanted:
            break
    return Thinning(space, thinning.resolutions, tuple(checks))


def thinned_resolutions(space: SearchSpace) -> tuple[int, ...]:
    """Return the smallest, the largest, and between them about equal steps in area; near each step the value that adds most blocks."""
    values = _resolutions(space)
    span = values[-1] / values[0]
    steps = max(1, math.ceil(2 * math.log(span) / math.log(MOST_GROWTH)))
    blocks = {value: set(distinct_blocks(_at(space, value))) for value in values}
    chosen = [values[0], values[-1]]
    for number in range(1, steps):
        known = set().union(*(blocks[value] for value in chosen))
        place = {value: abs(math.log(value / values[0], span) * steps - number) for value in values}
        near = [value for value in values if place[value] <= 0.5 and value not in chosen]
        if near:
            chosen.append(max(near, key=lambda value: (len(blocks[value] - known), -place[value])))
    return tuple(sorted(set(chosen)))


def _holding(needed: set[BlockSpec], space: SearchSpace) -> Iterator[Architecture]:
    """Yield few of a space's subnets that together hold what is needed of it, and take that out of `needed`."""
    candidates = {architecture: set(space.blocks(architecture)) for architecture in covering_architectures(space)}
    while True:
        best = max(candidates, key=lambda architecture: len(candidates[architecture] & needed))
        if not candidates[best] & needed:
            return
        needed -= candidates[best]
        yield best


def _resolutions(space: SearchSpace) -> list[int]:
    return sorted(int(value) for value in _resolution(space).allowed)


def _resolution(space: SearchSpace) -> Choice:
    for choice in space.choices:
        if choice.kind == "resolution":
            return choice
    raise ValueError(f"space {space.name} has no elastic resolution; collect it without --thin")


def _at(space: SearchSpace, *resolutions: int) -> SearchSpace:
    return space.restrict({_resolution(space).name: resolutions})
