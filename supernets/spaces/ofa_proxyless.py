"""The Once-for-All ProxylessNAS family: elastic resolution, depth, kernel and expansion, all ReLU6 and without squeeze-and-excitation.

Six stages, the last of one block always. Published weights have norms with an epsilon of 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from supernets.blocks import BlockSpec, make_divisible
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions, stages
from supernets.spaces.table import Table, full_name, with_options

KERNEL_SIZES = (3, 5, 7)
EXPAND_RATIOS = (3, 4, 6)
DEPTHS = (2, 3, 4)
LAST_DEPTHS = (1,)  # of the last stage


@dataclass(frozen=True)
class ProxylessTable(Table):
    """The fixed figures of one space of the family; a stage is (channels, stride of its first block)."""

    stem_channels: int
    first_channels: int
    stages: tuple[tuple[int, int], ...]
    feature_mix_channels: int


IMAGENET_STAGES = ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1))


def _imagenet_table(name: str, width: float) -> ProxylessTable:
    stem, first, mix = (make_divisible(channels * width) for channels in (32, 16, 1280))
    wide = tuple((make_divisible(channels * width), stride) for channels, stride in IMAGENET_STAGES)
    return ProxylessTable(name, tuple(range(128, 225, 4)), 4, 3, 1000, stem, first, wide, mix)


W1_0 = _imagenet_table("ofa-proxyless-w1.0", 1.0)
W1_3 = _imagenet_table("ofa-proxyless-w1.3", 1.3)
TINY = ProxylessTable(
    name="ofa-proxyless-tiny", resolutions=(20, 24, 28, 32), resolution_step=4, image_channels=1, classes=10, stem_channels=16, first_channels=8,
    stages=((16, 1), (32, 2), (64, 2), (96, 1)), feature_mix_channels=256,
)  # fmt: skip


def w1_0(options: SpaceOptions) -> SearchSpace:
    """Return the width-1.0 ImageNet space."""
    return proxyless_space(W1_0, options)


def w1_3(options: SpaceOptions) -> SearchSpace:
    """Return the width-1.3 ImageNet space, the one whose weights are published."""
    return proxyless_space(W1_3, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 28 to 32 pixels, grey unless told otherwise."""
    return proxyless_space(TINY, options)


def proxyless_space(table: ProxylessTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step.
    """
    changed = with_options(table, options)
    return SearchSpace(full_name(table, changed), _choices(changed), partial(_lower, changed), _block_choices(changed))


def _depths(table: ProxylessTable, stage: int) -> tuple[int, ...]:
    return LAST_DEPTHS if stage == len(table.stages) else DEPTHS


def _choices(table: ProxylessTable) -> tuple[Choice, ...]:
    choices = [Choice("resolution", table.resolutions)]
    for s in range(1, len(table.stages) + 1):
        depth, depths = f"stage{s}.depth", _depths(table, s)
        choices += stages.chosen(depth, depths)
        for b in range(max(depths)):
            choices += stages.switched(f"stage{s}.block{b}.kernel_size", KERNEL_SIZES, depth, depths, b)
            choices += stages.switched(f"stage{s}.block{b}.expand_ratio", EXPAND_RATIOS, depth, depths, b)
    return tuple(choices)


def _block_choices(table: ProxylessTable) -> dict[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {name: ("resolution",) for name in ("stem", "first_block", "feature_mix", "pool", "classifier")}
    for s in range(1, len(table.stages) + 1):
        for b in range(max(_depths(table, s))):
            place = f"stage{s}.block{b}"
            places[place] = ("resolution", f"{place}.kernel_size", f"{place}.expand_ratio")
    return places


def _lower(table: ProxylessTable, architecture: Architecture) -> list[BlockSpec]:
    stem = BlockSpec("conv_bn", architecture["resolution"], table.image_channels, table.stem_channels,
                     kernel_size=3, stride=2, activation="relu6", name="stem")  # fmt: skip
    first = BlockSpec("mbconv", stem.output_side, stem.out_channels, table.first_channels, stem.out_channels,
                      kernel_size=3, activation="relu6", name="first_block")  # fmt: skip
    blocks = [stem, first]
    for s, (channels, stride) in enumerate(table.stages, start=1):
        for b in range(stages.value(architecture, f"stage{s}.depth", _depths(table, s))):
            blocks.append(_elastic_block(architecture, f"stage{s}.block{b}", channels, blocks[-1], stride if b == 0 else 1, residual=b > 0))
    last = blocks[-1]
    side, mixed = last.output_side, table.feature_mix_channels
    return [
        *blocks,
        BlockSpec("conv_bn", side, last.out_channels, mixed, activation="relu6", name="feature_mix"),
        BlockSpec("pool", side, mixed, mixed, name="pool"),
        BlockSpec("linear", 1, mixed, table.classes, name="classifier"),
    ]


def _elastic_block(architecture: Architecture, place: str, channels: int, before: BlockSpec, stride: int, *, residual: bool) -> BlockSpec:
    return BlockSpec(
        "mbconv", before.output_side, before.out_channels, channels,
        make_divisible(round(before.out_channels * architecture[f"{place}.expand_ratio"])),
        kernel_size=architecture[f"{place}.kernel_size"], stride=stride, activation="relu6", residual=residual, name=place,
    )  # fmt: skip
