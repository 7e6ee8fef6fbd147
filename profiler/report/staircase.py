"""Latency over the input's resolution: whole networks as sums of their blocks, and blocks that climb more than their MACs explain."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from luts.table import Entry, LatencyTable
from profiler.coverage import resolutions
from profiler.report import display
from supernets import counts
from supernets.blocks import BlockSpec
from supernets.space import Architecture, SearchSpace

STEEP = 2.0  # times as fast as the pixels: a resolution before such a step is a bargain
UNEXPLAINED = 1.10  # a block's time a multiply-add from one side to the next: table entries are known better than that
FEWEST_RESOLUTIONS = 3
NEIGHBOURS = 2  # sides before and after a step that must all lie on its two levels: one wrong figure is no step
STEPS_TOLD = 8


@dataclass(frozen=True)
class NetworkStairs:
    """One architecture at every resolution: the sum of its blocks."""

    name: str
    latencies_ms: tuple[float, ...]
    macs: tuple[int, ...]


@dataclass(frozen=True)
class BlockStep:
    """A step of one block: `time_a_mac` is how many times as long a multiply-add takes at the greater side."""

    block: BlockSpec
    from_side: int
    to_side: int
    latency: float
    time_a_mac: float


@dataclass(frozen=True)
class Staircase:
    """Networks by resolution (pixels), and of `families` of blocks that differ only in side the steps their MACs do not explain."""

    resolutions: tuple[int, ...]
    networks: tuple[NetworkStairs, ...]
    families: int
    steps: tuple[BlockStep, ...]


@dataclass(frozen=True)
class StairRow:
    """One resolution: latencies of the networks in their order, and how much more than at the resolution before; NaN at the first."""

    resolution: int
    latencies_ms: tuple[float, ...]
    more_time: float = math.nan
    more_macs: float = math.nan
    more_pixels: float = math.nan


def staircase(space: SearchSpace, table: LatencyTable) -> Staircase | None:
    """Return the staircase of a space that the table covers; None with fewer than three resolutions."""
    sides = tuple(sorted(resolutions(space)))
    if len(sides) < FEWEST_RESOLUTIONS:
        return None
    chosen = {"smallest": space.smallest(), "random": space.sample(np.random.default_rng(0)), "largest": space.largest()}
    networks = tuple(_stairs(name, space, table, architecture, sides) for name, architecture in chosen.items())
    families = _families(table.entries.values())
    steps = sorted((step for family in families for step in _steps(family)), key=lambda step: -step.time_a_mac)
    return Staircase(sides, networks, len(families), tuple(steps))


def _stairs(name: str, space: SearchSpace, table: LatencyTable, architecture: Architecture, sides: Iterable[int]) -> NetworkStairs:
    blocks = [space.blocks(space.architecture({**architecture.values, "resolution": side})) for side in sides]
    return NetworkStairs(name, tuple(table.latency_ms(found) for found in blocks), tuple(counts.macs(found) for found in blocks))


def _families(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return blocks equal but for their side, by side; only those with more than one."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if counts.block_macs(entry.block):
            found.setdefault(replace(entry.block, input_side=1).key, []).append(entry)
    return [sorted(family, key=lambda entry: entry.block.input_side) for family in found.values() if len(family) > 1]


def _steps(family: list[Entry]) -> list[BlockStep]:
    times = [entry.latency_ms / counts.block_macs(entry.block) for entry in family]
    found = []
    for place, (before, after) in enumerate(pairwise(family), start=1):
        factor = min(times[place : place + NEIGHBOURS]) / max(times[max(0, place - NEIGHBOURS) : place])
        if factor >= UNEXPLAINED and NEIGHBOURS <= place <= len(family) - NEIGHBOURS:
            found.append(BlockStep(before.block, before.block.input_side, after.block.input_side, after.latency_ms / before.latency_ms, factor))
    return found


def rows(found: Staircase) -> list[StairRow]:
    """Return the staircase resolution by resolution; the last network's steps are told."""
    sides, largest = found.resolutions, found.networks[-1]
    latencies_ms = list(zip(*(network.latencies_ms for network in found.networks), strict=True))
    steps = [
        StairRow(sides[i], latencies_ms[i], largest.latencies_ms[i] / largest.latencies_ms[i - 1] - 1,
                 largest.macs[i] / largest.macs[i - 1] - 1, (sides[i] / sides[i - 1]) ** 2 - 1)
        for i in range(1, len(sides))
    ]  # fmt: skip
    return [StairRow(sides[0], latencies_ms[0]), *steps]


def bargains(found: Staircase) -> list[int]:
    """Return the resolutions after which the largest network's time grows STEEP times as fast as its pixels."""
    grown = zip(found.resolutions, rows(found)[1:], strict=False)
    return [before for before, row in grown if np.log1p(row.more_time) >= STEEP * np.log1p(row.more_pixels)]


def sentence(found: Staircase) -> str:
    """Return where the stairs are steep, in words, and whether MACs explain them."""
    low, high = max(pairwise(rows(found)), key=lambda step: step[1].more_time)
    time, pixels, macs = (display.percent(share) for share in (high.more_time, high.more_pixels, high.more_macs))
    text = (
        f"The steepest step is from {low.resolution} to {high.resolution} pixels a side: the largest network takes {time} longer, "
        f"for {pixels} more pixels and {macs} more MACs."
    )
    before = bargains(found)
    if before:
        text += f" Time grows at least {STEEP:g} times as fast as the pixels right after {_listed(before)}: the most pixels for the time are there."
    limit = display.percent(UNEXPLAINED - 1, 0)
    if not found.steps:
        return f"{text} No block takes over {limit} more time a multiply-add from one side to the next: MACs explain the steps."
    step = found.steps[0]
    return (
        f"{text} {display.count(len(found.steps))} steps of single blocks are steeper than their MACs by over {limit}; the worst is "
        f"{step.block.key}: from side {step.from_side} to {step.to_side} a multiply-add takes {step.time_a_mac:.2f} times as long."
    )


def figures(found: Staircase) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the staircase."""
    largest, (low, high) = found.networks[-1], (found.resolutions[0], found.resolutions[-1])
    before = bargains(found)
    return [
        (f"Largest network, {low} to {high} pixels", f"{display.ms(largest.latencies_ms[0])} to {display.with_ms(largest.latencies_ms[-1])}"),
        ("Resolutions just before a steep step", _listed(before) if before else "none"),
        ("Blocks followed over their side", display.count(found.families)),
        ("Steps that MACs do not explain", display.count(len(found.steps))),
    ]


def _listed(numbers: list[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))
