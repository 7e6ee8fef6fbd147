"""What there is to know about a search space before anything is measured."""

from __future__ import annotations

from typing import Any

from supernets import counts
from supernets.places import distinct_blocks
from supernets.spaces import space as search_space


def space_overview(name: str) -> dict[str, Any]:
    """Return name, number of networks, resolutions, number of blocks to measure, extremes of MACs and parameters."""
    space = search_space(name)
    sides = next(choice.allowed for choice in space.choices if choice.name == "resolution")
    smallest, largest = space.blocks(space.smallest()), space.blocks(space.largest())
    return {
        "space": space.name,
        "networks": space.size(),
        "resolutions": f"{sides[0]} to {sides[-1]} ({len(sides)})",
        "distinct_blocks": len(distinct_blocks(space)),
        "min_macs": counts.macs(smallest),
        "max_macs": counts.macs(largest),
        "max_parameters": counts.parameters(largest),
    }
