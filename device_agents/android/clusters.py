"""Which cores of a phone are its big ones: groups by the highest clock that each core says of itself, never by a fixed mask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

BIG, MIDDLE, LITTLE = "big", "middle", "little"
CLUSTERS = (BIG, MIDDLE, LITTLE)
MOST_CORES = 1024


def clusters(maxima_khz: Mapping[int, int | None]) -> list[tuple[int, ...]]:
    """Return the groups of cores of one highest clock, the slowest group first; cores that do not tell it are left out."""
    clocks = sorted({clock for clock in maxima_khz.values() if clock})
    return [tuple(sorted(core for core, own in maxima_khz.items() if own == clock)) for clock in clocks]


def cores_of(cluster: str, maxima_khz: Mapping[int, int | None]) -> tuple[int, ...]:
    """Return the cores of a cluster: the fastest group is big, the slowest little, the one below the big one middle.

    Raises:
        ValueError: there is no cluster of that name on this device; the text says which cores it has.
    """
    if cluster not in CLUSTERS:
        raise ValueError(f"cluster is {cluster!r}; expected {', '.join(CLUSTERS)}")
    groups = clusters(maxima_khz)
    if not groups:
        raise ValueError(f"cluster is {cluster!r}, but none of the {len(maxima_khz)} cores tells its highest clock; set `cores` instead")
    if cluster == BIG:
        return groups[-1]
    if len(groups) < (3 if cluster == MIDDLE else 2):
        known = "; ".join(f"cores {listed(group)} at up to {maxima_khz[group[0]]} kHz" for group in groups)
        raise ValueError(f"cluster is {cluster!r}, but the device has only {known}; set another cluster, or `cores`")
    return groups[-2] if cluster == MIDDLE else groups[0]


def mask(cores: Iterable[int]) -> str:
    """Return cores as taskset takes them: a hexadecimal mask."""
    return f"{sum(1 << core for core in set(cores)):x}"


def parse_list(text: str) -> tuple[int, ...] | None:
    """Return the cores of a list of the kernel's, such as "0-3,6"; None where it is none."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if not found or not int(found[1]) <= int(found[2] or found[1]) < MOST_CORES:
            return None
        cores.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(sorted(cores))


def listed(cores: Collection[int]) -> str:
    """Return cores as text for people."""
    return ", ".join(map(str, sorted(cores)))
