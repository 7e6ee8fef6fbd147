"""Two tables side by side: how many times as long each block takes in the second, and which kinds of blocks differ from the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from luts.table import LatencyTable
from profiler.report import display
from profiler.report.kinds import PROPERTIES, Property
from profiler.table_comparing import Comparison
from supernets.blocks import BlockSpec

APART = 1.10  # a kind whose median ratio is this far from that of all blocks, either way, differs
SIDES = (7, 14, 28, 56, 112)  # input sides are grouped up to these, and above


@dataclass(frozen=True)
class KindRatios:
    """Ratios (second by first) of the blocks with one value of a property; `apart` is their median by that of all blocks."""

    grouped_by: str
    value: str
    blocks: int
    median: float
    lowest: float  # 5th percentile
    highest: float  # 95th
    apart: float

    @property
    def differs(self) -> bool:
        """Whether this kind is faster or slower than the factor common to all blocks explains."""
        return max(self.apart, 1 / self.apart) >= APART


@dataclass(frozen=True)
class ComparisonData:
    """Everything a page of two tables shows: `first` and `second` are their names, `ratios` those of all common blocks, ascending."""

    first: str
    second: str
    created: str
    version: str
    comparison: Comparison
    ratios: tuple[float, ...]
    kinds: tuple[KindRatios, ...]


def comparison_data(one: LatencyTable, two: LatencyTable, comparison: Comparison, created: str, version: str) -> ComparisonData:
    """Return the page's data of two tables and how they compare."""
    ratios = {entry.block: two.entries[key].latency_ms / entry.latency_ms for key, entry in one.entries.items() if key in two.entries}
    first, second = Path(one.source).name, Path(two.source).name
    if first == second:
        first, second = one.source, two.source
    return ComparisonData(first, second, created, version, comparison, tuple(sorted(ratios.values())), _kinds(ratios))


def _kinds(ratios: Mapping[BlockSpec, float]) -> tuple[KindRatios, ...]:
    """Return the kinds of each property that more than one value of is there, those farthest from the rest first."""
    of_all = float(np.median(list(ratios.values())))
    found = []
    for name, value_of in _GROUPINGS.items():
        groups: dict[str, list[float]] = {}
        for block, ratio in ratios.items():
            value = value_of(block)
            if value is not None:
                groups.setdefault(value, []).append(ratio)
        if len(groups) > 1:
            found += [_kind_ratios(name, value, group, of_all) for value, group in groups.items()]
    return tuple(sorted(found, key=lambda kind: -abs(np.log(kind.apart))))


def _kind_ratios(name: str, value: str, group: list[float], of_all: float) -> KindRatios:
    lowest, median, highest = (float(figure) for figure in np.percentile(group, (5, 50, 95)))
    return KindRatios(name, value, len(group), median, lowest, highest, median / of_all)


def _written(known: Property, block: BlockSpec) -> str | None:
    value = known.value_of(block)
    return None if value is None else known.written(value)


def _side(block: BlockSpec) -> str:
    return next((f"up to {side}" for side in SIDES if block.input_side <= side), f"over {SIDES[-1]}")


_GROUPINGS: dict[str, Callable[[BlockSpec], str | None]] = {
    "operator": lambda block: block.operator,
    **{known.name: partial(_written, known) for known in PROPERTIES},
    "input side": _side,
}


def sentence(data: ComparisonData) -> str:
    """Return how the tables differ, in words."""
    found, networks = data.comparison, data.comparison.networks
    ratio = found.blocks.ratios[50]
    half, most = (display.percent(found.blocks.differences[percentile]) for percentile in (50, 95))
    text = (
        f"The median block takes {ratio:.2f} times as long in {data.second} as in {data.first}; "
        f"half of the {display.count(found.blocks.blocks)} common blocks differ by {half} or less, nineteen in twenty by {most} or less."
    )
    differing = [kind for kind in data.kinds if kind.differs]
    if differing:
        worst = differing[0]
        text += f" {worst.grouped_by.capitalize()} {worst.value} stands out most: {worst.median:.2f} times as long."
    else:
        text += f" No kind of block is over {display.percent(APART - 1, 0)} off what all blocks have in common."
    if networks is not None:
        networks_told = f"{display.count(networks.networks)} random networks"
        text += f" How the two tables rank {networks_told} correlates with Spearman's ρ {display.decimals(networks.spearman)}."
    return text


def figures(data: ComparisonData) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the ratios."""
    blocks, networks = data.comparison.blocks, data.comparison.networks
    pairs: list[tuple[str, str]] = [
        ("Blocks in both", display.count(blocks.blocks)),
        (f"Only in {data.first}", display.count(blocks.only_first)),
        (f"Only in {data.second}", display.count(blocks.only_second)),
    ]
    if networks is None:
        return [*pairs, ("Rank correlation", "unknown: the tables are of no common space")]
    return [
        *pairs,
        ("Spearman, random networks", display.decimals(networks.spearman, 4)),
        ("Kendall τ, random networks", display.decimals(networks.kendall, 4)),
        ("Median ratio, random networks", f"{networks.median_ratio:.3f}"),
    ]


def written(value: object) -> str:
    """Return one field of a condition as text."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
