"""Two latency tables block by block: by which factor the second is slower, and where the two are farthest apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from luts.table import LatencyTable

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class BlockRatio:
    """A block both tables have; `ratio` is the second latency by the first."""

    key: str
    first_ms: float
    second_ms: float
    ratio: float


@dataclass(frozen=True)
class BlockComparison:
    """Ratios (second by first) over the blocks both tables have.

    `differences` are percentiles of how far a ratio is from 1, either way; `worst` are the blocks farthest from the median
    ratio, which a factor common to all blocks does not bring together.
    """

    blocks: int
    only_first: int
    only_second: int
    ratios: dict[int, float]
    differences: dict[int, float]
    worst: tuple[BlockRatio, ...]


def compare_blocks(first: LatencyTable, second: LatencyTable, worst: int = 10) -> BlockComparison:
    """Return the comparison, with this many of the worst blocks.

    Raises:
        ValueError: the tables have no block in common.
    """
    common = [key for key in first.entries if key in second.entries]
    if not common:
        raise ValueError(f"{first.source} and {second.source} have no block in common (mode {first.mode}); compare tables of one space")
    latencies_ms = np.array([(first.entries[key].latency_ms, second.entries[key].latency_ms) for key in common])
    ratios = latencies_ms[:, 1] / latencies_ms[:, 0]
    order = np.argsort(-np.abs(np.log(ratios / np.median(ratios))), kind="stable")[:worst]
    return BlockComparison(
        blocks=len(common),
        only_first=len(first.entries) - len(common),
        only_second=len(second.entries) - len(common),
        ratios={p: float(np.percentile(ratios, p)) for p in PERCENTILES},
        differences={p: float(np.percentile(np.abs(ratios - 1), p)) for p in PERCENTILES},
        worst=tuple(BlockRatio(common[i], float(latencies_ms[i, 0]), float(latencies_ms[i, 1]), float(ratios[i])) for i in order),
    )
