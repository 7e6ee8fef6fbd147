"""Two latency tables side by side: the workflow behind `profiler table compare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luts.comparing import BlockComparison, compare_blocks
from luts.table import LatencyTable
from predictors.metrics import kendall, spearman
from profiler.coverage import covered_space, resolutions
from supernets.places import AdditiveCost
from supernets.space import SearchSpace
from supernets.spaces import space as search_space

RANDOM_NETWORKS = 1000


@dataclass(frozen=True)
class NetworkComparison:
    """How two tables' sums over random networks of a space agree: rank correlations, and the median ratio (second by first)."""

    space: str
    networks: int
    resolutions: tuple[int, ...]
    spearman: float
    kendall: float
    median_ratio: float


@dataclass(frozen=True)
class Comparison:
    """Two tables compared: the condition's fields that differ, the blocks, and networks where a space is known."""

    mode: str
    conditions: dict[str, tuple[Any, Any]]
    blocks: BlockComparison
    networks: NetworkComparison | None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as a JSON-serialisable mapping."""
        return asdict(self)


def compare_tables(
    first: str | Path, second: str | Path, mode: str = "chain", space: str | None = None, worst: int = 10, seed: int = 0
) -> Comparison:
    """Return how two tables agree, block by block and over random networks of a space: the named one, or the one both are of.

    Raises:
        ValueError: they have no block in common.
        MissingBlockError: the named space has no resolution that both tables cover.
    """
    return compare_opened(LatencyTable.open(first, mode), LatencyTable.open(second, mode), space, worst, seed)


def compare_opened(one: LatencyTable, two: LatencyTable, space: str | None = None, worst: int = 10, seed: int = 0) -> Comparison:
    """Return how two opened tables of one mode agree; as `compare_tables`."""
    blocks = compare_blocks(one, two, worst)
    name = space or (one.space if one.space == two.space else None)
    networks = None if name is None else _compare_networks(one, two, search_space(name), seed)
    return Comparison(one.mode, one.condition.differences(two.condition), blocks, networks)


def _compare_networks(one: LatencyTable, two: LatencyTable, space: SearchSpace, seed: int) -> NetworkComparison:
    covered = covered_space(covered_space(space, one), two)
    population = covered.sample_different(RANDOM_NETWORKS, np.random.default_rng(seed))
    sums = [AdditiveCost(covered, lambda block, table=table: table.entry(block).latency_ms)(population) for table in (one, two)]  # type: ignore[misc]
    return NetworkComparison(space.name, len(population), resolutions(covered), spearman(*sums), kendall(*sums), float(np.median(sums[1] / sums[0])))
