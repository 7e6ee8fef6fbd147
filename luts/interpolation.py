"""Latencies of blocks that were not measured, from the same block measured at a smaller and at a larger size.

Between the two, latency = a + b * x: x is the input's area h² (h the side as it is, after rounding up) or, by the other
law, the width between expand and project. Beyond what was measured nothing is told. Latencies are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from luts.estimates import NANOSECONDS_A_MILLISECOND
from luts.records import Figure
from luts.table import Entry, LatencyTable
from supernets.blocks import BlockSpec

POOLED_WEIGHT = 2  # misses that the other families' count for in a family's expected error: it has few of its own

Measured: TypeAlias = Mapping[BlockSpec, float]  # block → latency_ms


@dataclass(frozen=True)
class Law:
    """Blocks of one `family` differ in one size only, and their latency is a line in `size`, piece by piece."""

    name: str
    family: Callable[[BlockSpec], BlockSpec]
    size: Callable[[BlockSpec], int]


def _any_width(block: BlockSpec) -> BlockSpec:
    if block.mid_channels in (0, block.in_channels):  # a block without expansion is another computation
        return block
    return replace(block, mid_channels=block.in_channels + 1, se_channels=min(1, block.se_channels))  # the inner width follows


SIDE = Law("side", lambda block: replace(block, input_side=1), lambda block: block.input_side**2)
WIDTH = Law("width", _any_width, lambda block: block.mid_channels)


def interpolate(measured: Measured, wanted: Iterable[BlockSpec], mode: str, law: Law = SIDE) -> list[Figure]:
    """Return the figures of those wanted blocks that lie between two measured ones; the others are left out.

    The expected error is the root mean square of what the law misses where a measured block is left out: of the block's
    own family, and of all pooled; None where no family has three.
    """
    families = by_size(measured, law)
    misses = {family: _left_out(blocks, measured, law) for family, blocks in families.items()}
    pooled = [miss for own in misses.values() for miss in own]
    found = []
    for block in wanted:
        neighbours = _neighbours(block, families.get(law.family(block), ()), law)
        if neighbours is not None:
            error = _expected_error(misses[law.family(block)], pooled)
            source = {"law": law.name, "blocks": [neighbour.key for neighbour in neighbours]}
            found.append(Figure(block.key, mode, _between(block, neighbours, measured, law) * NANOSECONDS_A_MILLISECOND, error, source))
    return found


def with_interpolated(table: LatencyTable, blocks: Iterable[BlockSpec]) -> LatencyTable:
    """Return a table with those of the blocks that it lacks and that a law tells: by side, and where that cannot, by width."""
    wanted = list(dict.fromkeys(blocks))
    by_key = {block.key: block for block in wanted}
    measured = {entry.block: entry.latency_ms for entry in table.entries.values() if entry.origin != "interpolated"}
    alone = {block: table.alone_ms[block.key] for block in measured if block.key in table.alone_ms}
    told = {figure.key: figure for figure in _by_any_law(measured, table.missing(wanted), table.mode)}
    told_alone = _by_any_law(alone, [block for block in wanted if block.key not in table.alone_ms], "alone")
    entries = [
        Entry(by_key[key], figure.latency_ns / NANOSECONDS_A_MILLISECOND, figure.origin, figure.relative_error, 0, 0) for key, figure in told.items()
    ]
    alone_ms = {**table.alone_ms, **{figure.key: figure.latency_ns / NANOSECONDS_A_MILLISECOND for figure in told_alone}}
    return LatencyTable(table.condition, table.mode, [*table.entries.values(), *entries], table.networks(), table.source, table.space, alone_ms)


def _by_any_law(measured: Measured, wanted: Sequence[BlockSpec], mode: str) -> list[Figure]:
    by_side = interpolate(measured, wanted, mode, SIDE)
    told = {figure.key for figure in by_side}
    return by_side + interpolate(measured, [block for block in wanted if block.key not in told], mode, WIDTH)


def by_size(blocks: Iterable[BlockSpec], law: Law) -> dict[BlockSpec, list[BlockSpec]]:
    """Return family → its blocks in order of size."""
    families: dict[BlockSpec, list[BlockSpec]] = {}
    for block in sorted(blocks, key=law.size):
        families.setdefault(law.family(block), []).append(block)
    return families


def _neighbours(block: BlockSpec, family: Sequence[BlockSpec], law: Law) -> tuple[BlockSpec, BlockSpec] | None:
    """Return the family's largest block below this one and its smallest above; None where one is missing."""
    smaller = [other for other in family if law.size(other) < law.size(block)]
    larger = [other for other in family if law.size(other) > law.size(block)]
    return (smaller[-1], larger[0]) if smaller and larger else None


def _between(block: BlockSpec, neighbours: tuple[BlockSpec, BlockSpec], measured: Measured, law: Law) -> float:
    return float(np.interp(law.size(block), [law.size(other) for other in neighbours], [measured[other] for other in neighbours]))


def _left_out(family: Sequence[BlockSpec], measured: Measured, law: Law) -> list[float]:
    """Return the relative miss of each block that lies between two others, by those two."""
    return [
        _between(block, (smaller, larger), measured, law) / measured[block] - 1
        for smaller, block, larger in zip(family, family[1:], family[2:], strict=False)
    ]


def _expected_error(own: Sequence[float], pooled: Sequence[float]) -> float | None:
    if not pooled:
        return None
    return float(np.sqrt((np.sum(np.square(own)) + POOLED_WEIGHT * np.mean(np.square(pooled))) / (len(own) + POOLED_WEIGHT)))
