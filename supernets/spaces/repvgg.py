"""RepVGG (Ding et al., CVPR 2021): plain stacks of one 3x3 convolution with bias and ReLU a block, as they are deployed.

A skeleton fixes depths, widths and groups; the space chooses between skeletons. What a block is while it is trained
(branches that merge into the one convolution) is `repnas`'s subject and changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from supernets.blocks import BlockSpec
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions
from supernets.spaces.table import Table, full_name, with_options

KERNEL_SIZE = 3
LAST_GROUPED = 26  # of the blocks counted from the stem's 0, the even ones up to this have groups


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one width; the first has the stride."""

    depth: int
    channels: int
    stride: int = 2


@dataclass(frozen=True)
class Skeleton:
    """Depths, widths and groups of one network."""

    stem_channels: int
    stages: tuple[Stage, ...]
    groups: int = 1
    stem_stride: int = 2

    def layers(self) -> list[tuple[str, int, int, int]]:
        """Return (place, out channels, stride, groups) of each block, the stem first."""
        found = [("stem", self.stem_channels, self.stem_stride, 1)]
        for s, stage in enumerate(self.stages, start=1):
            for b in range(stage.depth):
                groups = self.groups if len(found) % 2 == 0 and len(found) <= LAST_GROUPED else 1
                found.append((f"stage{s}.block{b}", stage.channels, stage.stride if b == 0 else 1, groups))
        return found

    def blocks(self, side: int, image_channels: int, classes: int) -> list[BlockSpec]:
        """Return the network's blocks at a resolution."""
        blocks: list[BlockSpec] = []
        for place, channels, stride, groups in self.layers():
            source, before = (blocks[-1].out_channels, blocks[-1].output_side) if blocks else (image_channels, side)
            blocks.append(BlockSpec("conv_bias", before, source, channels, kernel_size=KERNEL_SIZE, stride=stride, activation="relu", groups=groups,
                                    name=place))  # fmt: skip
        last = blocks[-1]
        pool = BlockSpec("pool", last.output_side, last.out_channels, last.out_channels, name="pool")
        return [*blocks, pool, BlockSpec("linear", 1, last.out_channels, classes, name="classifier")]


A, B = (2, 4, 14, 1), (4, 6, 16, 1)


def _skeleton(depths: tuple[int, ...], multiplier: float, last_multiplier: float, groups: int = 1) -> Skeleton:
    widths = [int(channels * multiplier) for channels in (64, 128, 256)] + [int(512 * last_multiplier)]
    return Skeleton(min(64, widths[0]), tuple(Stage(depth, width) for depth, width in zip(depths, widths, strict=True)), groups)


_PLAIN = {
    "a0": _skeleton(A, 0.75, 2.5), "a1": _skeleton(A, 1, 2.5), "b0": _skeleton(B, 1, 2.5), "a2": _skeleton(A, 1.5, 2.75),
    "b1": _skeleton(B, 2, 4), "b2": _skeleton(B, 2.5, 5), "b3": _skeleton(B, 3, 5),
}  # fmt: skip
_GROUPED = {f"{name}g{groups}": replace(_PLAIN[name], groups=groups) for name in ("b1", "b2", "b3") for groups in (2, 4)}
SKELETONS = {**_PLAIN, **_GROUPED}
BY_COST = ("a0", "a1", "b0", "a2", "b1g4", "b1g2", "b2g4", "b1", "b2g2", "b3g4", "b2", "b3g2", "b3")  # multiply-adds, rising
TINY_SKELETONS = {
    "s": Skeleton(16, (Stage(1, 16, 1), Stage(2, 32), Stage(1, 64))),
    "m": Skeleton(16, (Stage(2, 24, 1), Stage(3, 48), Stage(1, 96))),
    "mg2": Skeleton(16, (Stage(2, 24, 1), Stage(3, 48), Stage(1, 96)), groups=2),
    "l": Skeleton(24, (Stage(2, 32, 1), Stage(4, 64), Stage(1, 128))),
}


@dataclass(frozen=True)
class RepVggTable(Table):
    """The fixed figures of one space of the family: its skeletons by name, the cheapest first."""

    skeletons: tuple[tuple[str, Skeleton], ...]


IMAGENET = RepVggTable("repvgg", tuple(range(128, 321, 32)), 4, 3, 1000, tuple((name, SKELETONS[name]) for name in BY_COST))
TINY = RepVggTable("repvgg-tiny", (20, 24, 28, 32), 4, 1, 10, tuple((name, TINY_SKELETONS[name]) for name in ("s", "mg2", "m", "l")))


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space."""
    return repvgg_space(IMAGENET, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 28 to 32 pixels, grey unless told otherwise."""
    return repvgg_space(TINY, options)


def repvgg_space(table: RepVggTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step.
    """
    changed = with_options(table, options)
    choices = (Choice("resolution", changed.resolutions), Choice("skeleton", tuple(name for name, _ in changed.skeletons)))
    decides = ("resolution", "skeleton")
    places = {block.name: decides for _, skeleton in changed.skeletons for block in skeleton.blocks(32, 3, 10)}
    return SearchSpace(full_name(table, changed), choices, partial(_lower, changed), places)


def _lower(table: RepVggTable, architecture: Architecture) -> list[BlockSpec]:
    skeleton = dict(table.skeletons)[architecture["skeleton"]]
    return skeleton.blocks(architecture["resolution"], table.image_channels, table.classes)
