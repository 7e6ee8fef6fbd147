"""The RepNAS space (Zhang et al., 2021): which branches each block of a RepVGG skeleton is trained with.

One choice a branch, 0 or 1. After training the branches of a block merge into its one convolution, so they change
nothing of the deployed network: its blocks, and every cost counted or measured on them, are the skeleton's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from supernets.blocks import BlockSpec
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions
from supernets.spaces.repvgg import SKELETONS, TINY_SKELETONS, Skeleton
from supernets.spaces.table import Table, full_name, with_options

# k: the block's kernel. Each branch ends in a norm; skip is a norm alone, where the block changes neither side nor width.
BRANCHES = ("branch_1x1", "branch_kxk", "branch_1x1_kxk", "branch_1x1_avg", "branch_1xk", "branch_kx1", "branch_skip")
POINT, KXK, POINT_KXK, POINT_AVERAGE, ROW, COLUMN, SKIP = BRANCHES


@dataclass(frozen=True)
class RepNasTable(Table):
    """The fixed figures of one space of the family."""

    skeleton: str
    skeletons: tuple[tuple[str, Skeleton], ...]


IMAGENET = RepNasTable("repnas", (224,), 4, 3, 1000, "a0", tuple(SKELETONS.items()))
TINY = RepNasTable("repnas-tiny", (28,), 4, 1, 10, "m", tuple(TINY_SKELETONS.items()))


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the space over an ImageNet skeleton, A0 unless told otherwise."""
    return repnas_space(IMAGENET, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space over a skeleton for images of 28 to 32 pixels, grey unless told otherwise."""
    return repnas_space(TINY, options)


def repnas_space(table: RepNasTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step, or no skeleton has the name given.
    """
    changed = with_options(table, options)
    skeletons = dict(changed.skeletons)
    if changed.skeleton not in skeletons:
        raise ValueError(f"skeleton is {changed.skeleton!r}; space {table.name!r} knows {', '.join(skeletons)}")
    skeleton = skeletons[changed.skeleton]
    choices = (Choice("resolution", changed.resolutions), *branch_choices(skeleton.blocks(32, changed.image_channels, changed.classes)))
    places = {block.name: ("resolution",) for block in skeleton.blocks(32, changed.image_channels, changed.classes)}
    return SearchSpace(full_name(table, changed), choices, partial(_lower, changed), places)


def branch_choices(blocks: list[BlockSpec]) -> list[Choice]:
    """Return one choice for each branch that each of the blocks can have, in order of execution; pool and classifier have none."""
    return [Choice(f"{block.name}.{branch}", (0, 1)) for block in blocks for branch in branches(block)]


def branches(block: BlockSpec) -> tuple[str, ...]:
    """Return the branches a block can be trained with."""
    if block.operator != "conv_bias":
        return ()
    return BRANCHES if block.stride == 1 and block.in_channels == block.out_channels else BRANCHES[:-1]


def _lower(table: RepNasTable, architecture: Architecture) -> list[BlockSpec]:
    skeleton = dict(table.skeletons)[table.skeleton]
    return skeleton.blocks(architecture["resolution"], table.image_channels, table.classes)
