"""What a report says of the system a run is of: how it trains and chooses, the branches it kept, and that merged latencies are equal."""

from __future__ import annotations

from dataclasses import dataclass

from profiler.report import display

# What the accuracy a search went by is called.
ACCURACY_WORDS = {"predicted": "predicted", "measured": "measured on held-out images", "proxy": "measured after a short training"}
PROVEN_WITHIN = 0.03  # or within what equal files differ by in the same session


@dataclass(frozen=True)
class BlockBranches:
    """The branches that one block was trained with in the end, out of those it can have."""

    block: str
    kept: tuple[str, ...]
    possible: tuple[str, ...]


@dataclass(frozen=True)
class MergedTiming:
    """A file merged from so many branches, and its latency; files are of one network but for numbers."""

    name: str
    branches: int
    latency_ms: float
    relative_spread: float | None
    visits: int


@dataclass(frozen=True)
class SystemFacts:
    """The system's title, label and text of how it works, the branches kept, and timings of files merged from other branches.

    The first timing is of the branches kept, the last of as many with other numbers: what two equal files differ by.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    branches: tuple[BlockBranches, ...] = ()
    timings: tuple[MergedTiming, ...] = ()


def branches_sentence(branches: tuple[BlockBranches, ...]) -> str:
    """Return how many branches were kept, and of which kind most often."""
    kept = [branch for block in branches for branch in block.kept]
    possible = sum(len(block.possible) for block in branches)
    most = max(dict.fromkeys(kept), key=kept.count)
    return f"{len(kept)} of {possible} branches were kept in {len(branches)} blocks; {most} most often, {kept.count(most)} times."


def timings_sentence(timings: tuple[MergedTiming, ...]) -> str:
    """Return whether latency depends on the branches, beside what two equal files differ by."""
    kept, most, again = timings[0], timings[1], timings[-1]
    ratio, noise = most.latency_ms / kept.latency_ms - 1, again.latency_ms / kept.latency_ms - 1
    equal = abs(ratio) <= max(PROVEN_WITHIN, 2 * abs(noise))
    found = "does not depend on the branches" if equal else "differs between the files, which measuring again may explain"
    return (
        f"The merged network's latency {found}: merged from {most.branches} branches it takes {display.signed_percent(ratio)} against "
        f"{kept.branches}; a file of the same branches with other numbers, {display.signed_percent(noise)}."
    )
