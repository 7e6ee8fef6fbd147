"""Which part of a space a latency table can answer for."""

from __future__ import annotations

from typing import Any

from luts.table import LatencyTable
from supernets.places import distinct_blocks
from supernets.space import SearchSpace


def covered_space(space: SearchSpace, table: LatencyTable) -> SearchSpace:
    """Return the space with only those resolutions whose every block is in the table.

    Raises:
        MissingBlockError: there are none; the text names the first missing blocks.
    """
    covered = [side for side in resolutions(space) if not table.missing(distinct_blocks(space.restrict({"resolution": (side,)})))]
    if not covered:
        table.latency_ms(distinct_blocks(space))
    return space.restrict({"resolution": covered}) if covered else space


def resolutions(space: SearchSpace) -> tuple[Any, ...]:
    """Return the input sides that a space allows."""
    return next((choice.allowed for choice in space.choices if choice.name == "resolution"), ())
