"""Where FLOPs mislead: the time that a multiply-add takes in blocks of different kinds, in nanoseconds.

Blocks that are equal but for one property are twins. Were FLOPs a fair guide, a multiply-add would take as long in both;
what twins say is of that property alone, and noise of one block's figure does not decide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from luts.table import Entry
from profiler.report import display
from supernets.blocks import BlockSpec
from supernets.counts import block_macs

Value: TypeAlias = float | str

# A quarter more time for equal MACs is more than table entries are off, and enough to choose a worse network by FLOPs.
MISLEADING = 1.25
FEWEST_TWINS = 8  # with fewer, even all of them on one side would happen by chance more than once in a hundred times
Z_99 = 2.576  # standard deviations that hold 99 % of a normal distribution
RANGE = (5, 95)  # percentiles told beside a median


@dataclass(frozen=True)
class Property:
    """One property of a block: its value, and the block without it, equal for twins; None where the block does not have it."""

    name: str
    value_of: Callable[[BlockSpec], Value | None]
    rest_of: Callable[[BlockSpec], BlockSpec]
    written: Callable[[Any], str]


def _expansion(block: BlockSpec) -> float | None:
    return round(block.mid_channels / block.in_channels, 2) if block.operator == "mbconv" else None


PROPERTIES = (
    Property("kernel", lambda block: block.kernel_size, lambda block: replace(block, kernel_size=1), "{0}×{0}".format),
    Property("expansion", _expansion, lambda block: replace(block, mid_channels=1, se_channels=min(1, block.se_channels)), "{:g}".format),
    Property("stride", lambda block: block.stride, lambda block: replace(block, stride=1, residual=False), str),
    Property("squeeze-and-excitation", lambda block: min(1, block.se_channels) if block.operator == "mbconv" else None,
             lambda block: replace(block, se_channels=0), lambda present: "with" if present else "without"),
    Property("activation", lambda block: block.activation, lambda block: replace(block, activation="none"), str),
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Blocks of one operator, kernel, expansion, stride, and with or without squeeze-and-excitation, over all input sides."""

    name: str
    blocks: int
    ns_a_mac: float  # median
    lowest: float
    highest: float


@dataclass(frozen=True)
class Step:
    """What changing one property from one value to the next does to twins: medians of ratios, and RANGE of the last.

    `time_a_mac` is the second block's time a multiply-add by the first's, `sure` the end nearest to 1 of its median's 99 % interval.
    """

    changed: str
    low: str
    high: str
    twins: int
    macs: float
    latency: float
    time_a_mac: float
    lowest: float
    highest: float
    sure: float

    @property
    def judged(self) -> bool:
        """Whether there are twins enough to say anything."""
        return self.twins >= FEWEST_TWINS

    @property
    def misleading(self) -> bool:
        """Whether FLOPs surely mislead a choice between the two values."""
        return self.judged and max(self.sure, 1 / self.sure) >= MISLEADING

    @property
    def fair(self) -> bool:
        """Whether FLOPs are a fair guide between the two values; neither this nor misleading is left open."""
        return self.judged and max(self.time_a_mac, 1 / self.time_a_mac) < MISLEADING


@dataclass(frozen=True)
class Curve:
    """Median time a multiply-add of all blocks with one value of a property, by input side."""

    value: str
    sides: tuple[int, ...]
    ns_a_mac: tuple[float, ...]


@dataclass(frozen=True)
class BlockKinds:
    """Kinds by name; steps, those judged first, and the one that changes the time a multiply-add the most; curves of its property."""

    kinds: tuple[Kind, ...]
    steps: tuple[Step, ...]
    curves: tuple[Curve, ...]

    @property
    def misleading(self) -> tuple[Step, ...]:
        """The steps that FLOPs mislead about."""
        return tuple(step for step in self.steps if step.misleading)


def block_kinds(entries: Iterable[Entry]) -> BlockKinds | None:
    """Return what a table's entries say of FLOPs; None where no blocks do multiply-adds."""
    timed = [(entry.block, entry.latency_ms) for entry in entries if block_macs(entry.block)]
    if not timed:
        return None
    found = [step for known in PROPERTIES for step in _steps(known, timed)]
    steps = sorted(found, key=lambda step: (not step.judged, -abs(math.log(step.time_a_mac))))
    shown = steps[0].changed if steps else PROPERTIES[0].name
    return BlockKinds(_kinds(timed), tuple(steps), _curves(next(known for known in PROPERTIES if known.name == shown), timed))


def _steps(known: Property, timed: Sequence[tuple[BlockSpec, float]]) -> list[Step]:
    families: dict[str, dict[Value, tuple[BlockSpec, float]]] = {}
    for block, latency_ms in timed:
        value = known.value_of(block)
        if value is not None:
            families.setdefault(known.rest_of(block).key, {})[value] = (block, latency_ms)
    values = sorted({value for members in families.values() for value in members})
    found = []
    for low, high in pairwise(values):
        twins = [(members[low], members[high]) for members in families.values() if low in members and high in members]
        if twins:
            found.append(_step(known, low, high, twins))
    return found


def _step(known: Property, low: Value, high: Value, twins: Sequence[tuple[tuple[BlockSpec, float], tuple[BlockSpec, float]]]) -> Step:
    latency = np.array([second_ms / first_ms for (_, first_ms), (_, second_ms) in twins])
    macs = np.array([block_macs(second) / block_macs(first) for (first, _), (second, _) in twins])
    times = np.sort(latency / macs)
    # the interval of a median by order statistics needs no assumption on how the ratios are distributed
    from_end = max(0, int(len(times) / 2 - Z_99 * math.sqrt(len(times)) / 2))
    ends = times[from_end], times[-1 - from_end]
    sure = 1.0 if ends[0] <= 1 <= ends[1] else min(ends, key=lambda end: abs(math.log(end)))
    lowest, highest = np.percentile(times, RANGE)
    return Step(known.name, known.written(low), known.written(high), len(times), float(np.median(macs)), float(np.median(latency)),
                float(np.median(times)), float(lowest), float(highest), float(sure))  # fmt: skip


def _kinds(timed: Sequence[tuple[BlockSpec, float]]) -> tuple[Kind, ...]:
    groups: dict[tuple[Any, ...], list[tuple[BlockSpec, float]]] = {}
    for block, latency_ms in timed:
        identity = (block.operator, block.kernel_size, _expansion(block) or 0.0, block.stride, block.se_channels > 0)
        groups.setdefault(identity, []).append((block, latency_ms))
    return tuple(_kind(groups[identity]) for identity in sorted(groups))


def _kind(members: Sequence[tuple[BlockSpec, float]]) -> Kind:
    block, times = members[0][0], _ns_a_mac(members)
    expansion = _expansion(block)
    parts = [block.operator, f"{block.kernel_size}×{block.kernel_size}", "" if expansion is None else f"expansion {expansion:g}",
             "" if block.stride == 1 else f"stride {block.stride}", "SE" if block.se_channels else ""]  # fmt: skip
    lowest, highest = np.percentile(times, RANGE)
    return Kind(", ".join(filter(None, parts)), len(times), float(np.median(times)), float(lowest), float(highest))


def _curves(known: Property, timed: Sequence[tuple[BlockSpec, float]]) -> tuple[Curve, ...]:
    """Return the curves of the property over the operator that most blocks are of."""
    operators = [block.operator for block, _ in timed]
    usual = max(sorted(set(operators)), key=operators.count)
    groups: dict[Value, dict[int, list[tuple[BlockSpec, float]]]] = {}
    for block, latency_ms in timed:
        value = known.value_of(block)
        if value is not None and block.operator == usual:
            groups.setdefault(value, {}).setdefault(block.input_side, []).append((block, latency_ms))
    return tuple(_curve(f"{known.name} {known.written(value)}", groups[value]) for value in sorted(groups))


def _curve(value: str, by_side: Mapping[int, Sequence[tuple[BlockSpec, float]]]) -> Curve:
    sides = tuple(sorted(by_side))
    return Curve(value, sides, tuple(float(np.median(_ns_a_mac(by_side[side]))) for side in sides))


def _ns_a_mac(members: Iterable[tuple[BlockSpec, float]]) -> list[float]:
    return [latency_ms * 1e6 / block_macs(block) for block, latency_ms in members]


def sentence(found: BlockKinds, origin: str) -> str:
    """Return where FLOPs mislead the most, in words, with the numbers; or that nothing found says so."""
    if not found.steps:
        return "No two blocks of the table differ in one property only, so FLOPs and latency cannot be compared property by property."
    judged = [step for step in found.steps if step.judged]
    if not judged:
        return f"No step of a property has {FEWEST_TWINS} pairs of blocks that are otherwise equal: too few to say where FLOPs mislead."
    if not found.misleading:
        properties = " or ".join(dict.fromkeys(step.changed for step in judged))
        guide = "are a fair guide" if all(step.fair for step in judged) else "mislead nowhere for sure"
        return (
            f"Between blocks that are equal but for their {properties}, FLOPs {guide}: the time a multiply-add takes, {origin}, "
            f"changes by a factor of at most {_factor(judged[0].time_a_mac)} ({_change(judged[0])})."
        )
    step = found.misleading[0]
    more = "" if len(found.misleading) == 1 else f" FLOPs mislead about {len(found.misleading)} of the {len(found.steps)} steps compared."
    return (
        f"FLOPs mislead most about the {step.changed}: {step.high} takes {step.latency:.2f} times as long as {step.low}, {origin}, "
        f"with {step.macs:.2f} times the MACs. A multiply-add there takes {step.time_a_mac:.1f} times as long "
        f"(median of {display.count(step.twins)} pairs of blocks otherwise equal; {step.lowest:.1f} to {step.highest:.1f} in nine of ten).{more}"
    )


def _change(step: Step) -> str:
    return f"{step.changed} {step.low} to {step.high}, median of {display.count(step.twins)} pairs"


def _factor(ratio: float) -> str:
    return f"{max(ratio, 1 / ratio):.2f}"


def figures(found: BlockKinds) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the kinds: the quickest and the slowest."""
    by_time = sorted(found.kinds, key=lambda kind: kind.ns_a_mac)
    return [
        (f"Quickest kind, {by_time[0].name}", f"{display.decimals(by_time[0].ns_a_mac, 4)} ns/MAC"),
        (f"Slowest kind, {by_time[-1].name}", f"{display.decimals(by_time[-1].ns_a_mac, 4)} ns/MAC"),
    ]
