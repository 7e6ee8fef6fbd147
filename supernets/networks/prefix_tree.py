"""Architectures as paths through the tree of their leading blocks: which of them share how much, and in which order.

A *step* is a block at its place: equal steps have equal shapes and equal weights (a block alone does not know its
place). A *path* is an architecture's steps, first to last. In tree order, paths that begin alike stand together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from supernets.blocks import BlockSpec
from supernets.space import Architecture, SearchSpace

Step: TypeAlias = tuple[str, BlockSpec]
Path: TypeAlias = tuple[Step, ...]


def path(space: SearchSpace, architecture: Architecture) -> Path:
    """Return the steps of an architecture."""
    return tuple((block.name, block) for block in space.blocks(architecture))


def in_tree_order(space: SearchSpace, architectures: Iterable[Architecture]) -> list[Architecture]:
    """Return the different architectures, those that begin alike together; the same for any order given."""
    different = dict.fromkeys(architectures)
    return sorted(different, key=lambda architecture: [(name, block.key) for name, block in path(space, architecture)])


def shared_steps(paths: Sequence[Path]) -> list[int]:
    """Return how many leading steps each path has in common with the next one; 0 for the last."""
    return [*(_common(a, b) for a, b in itertools.pairwise(paths)), 0][: len(paths)]


def _common(a: Path, b: Path) -> int:
    for depth, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return depth
    return min(len(a), len(b))


def branch_depths(shared: Sequence[int], index: int, start: int) -> set[int]:
    """Return the depths beyond `start` at which later paths branch off path `index`: what to keep when it is walked."""
    depths: set[int] = set()
    lowest = shared[index]
    for depth in shared[index:]:
        lowest = min(lowest, depth)
        if lowest <= start:
            break
        depths.add(lowest)
    return depths


def pieces(paths: Sequence[Path], size: int) -> Iterator[slice]:
    """Yield consecutive slices of half to one and a half times `size` paths, cut where neighbours share the least."""
    shared = shared_steps(paths)
    start = 0
    while len(paths) - start > 1.5 * size:
        candidates = range(start + max(1, size // 2), start + max(1, size * 3 // 2) + 1)
        end = min(candidates, key=lambda i: (shared[i - 1], abs(i - start - size)))
        yield slice(start, end)
        start = end
    if start < len(paths):
        yield slice(start, len(paths))
