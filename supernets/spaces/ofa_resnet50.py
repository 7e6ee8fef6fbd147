"""The Once-for-All ResNet50D family: elastic resolution, depth, width and bottleneck ratio, and a stem convolution that can be left out.

Widths are chosen as channel counts. Two of the paper's three width indices give the stem the same inner width, so
here it has two values, and equal networks are equal architectures (`ofa_config` reads and writes indices). In narrow
networks that happens to other widths too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from supernets.blocks import BlockSpec, make_divisible
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions, stages
from supernets.spaces.table import Table, full_name, with_options

WIDTH_MULTIPLIERS = (0.65, 0.8, 1.0)
EXPAND_RATIOS = (0.2, 0.25, 0.35)  # of a bottleneck's inner width to its output's
EXTRA_DEPTHS = (0, 1, 2)


@dataclass(frozen=True)
class Stage:
    """A run of bottlenecks of one width: at least `base_depth` of them; the first has the stride."""

    channels: int
    stride: int
    base_depth: int


@dataclass(frozen=True)
class ResNetTable(Table):
    """The fixed figures of one space of the family; channels are those of multiplier 1."""

    stem_channels: int
    max_pool: bool
    stages: tuple[Stage, ...]


IMAGENET = ResNetTable(
    name="ofa-resnet50", resolutions=tuple(range(128, 225, 4)), resolution_step=4, image_channels=3, classes=1000, stem_channels=64, max_pool=True,
    stages=(Stage(256, 1, 2), Stage(512, 2, 2), Stage(1024, 2, 4), Stage(2048, 2, 2)),
)  # fmt: skip
TINY = ResNetTable(
    name="ofa-resnet50-tiny", resolutions=(20, 24, 28, 32), resolution_step=4, image_channels=1, classes=10, stem_channels=40, max_pool=False,
    stages=(Stage(64, 1, 1), Stage(128, 2, 1), Stage(256, 2, 1)),
)  # fmt: skip

TINY_W0_5 = replace(  # half the channels, in multiples of 8
    TINY, name="ofa-resnet50-tiny-w0.5", stem_channels=24, stages=(Stage(32, 1, 1), Stage(64, 2, 1), Stage(128, 2, 1))
)


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space."""
    return resnet_space(IMAGENET, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 20 to 32 pixels, grey unless told otherwise."""
    return resnet_space(TINY, options)


def tiny_w0_5(options: SpaceOptions) -> SearchSpace:
    """Return the space of networks half as wide, for images of 20 to 32 pixels, grey unless told otherwise."""
    return resnet_space(TINY_W0_5, options)


def widths_by_index(channels: int) -> tuple[int, ...]:
    """Return the channels of each width multiplier; of narrow networks two of them may come to one number."""
    return tuple(make_divisible(channels * multiplier) for multiplier in WIDTH_MULTIPLIERS)


def stem_inner_widths_by_index(channels: int) -> tuple[int, ...]:
    """Return the stem's inner channels of each width multiplier, which may repeat."""
    return tuple(make_divisible(width // 2) for width in widths_by_index(channels))


def _different(widths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(widths))


def resnet_space(table: ResNetTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step.
    """
    changed = with_options(table, options)
    return SearchSpace(full_name(table, changed), _choices(changed), partial(_lower, changed), _block_choices(changed))


def _choices(table: ResNetTable) -> tuple[Choice, ...]:
    choices = [
        Choice("resolution", table.resolutions),
        Choice("stem.inner_width", _different(stem_inner_widths_by_index(table.stem_channels))),
        Choice("stem.middle", (0, 1)),
        Choice("stem.width", _different(widths_by_index(table.stem_channels))),
    ]
    for s, stage in enumerate(table.stages, start=1):
        extra = f"stage{s}.extra_depth"
        choices += [Choice(f"stage{s}.width", _different(widths_by_index(stage.channels))), Choice(extra, EXTRA_DEPTHS)]
        for b in range(stage.base_depth + max(EXTRA_DEPTHS)):
            choices += stages.switched(f"stage{s}.block{b}.expand_ratio", EXPAND_RATIOS, extra, EXTRA_DEPTHS, b - stage.base_depth)
    return tuple(choices)


def _block_choices(table: ResNetTable) -> dict[str, tuple[str, ...]]:
    inner, before = "stem.inner_width", "stem.width"
    places = {"stem": ("resolution", inner), "stem_middle": ("resolution", inner, "stem.middle"), "stem_out": ("resolution", inner, before)}
    if table.max_pool:
        places["max_pool"] = ("resolution", before)
    for s, stage in enumerate(table.stages, start=1):
        width = f"stage{s}.width"
        for b in range(stage.base_depth + max(EXTRA_DEPTHS)):
            place = f"stage{s}.block{b}"
            places[place] = ("resolution", *([before] if b == 0 else []), width, f"{place}.expand_ratio")
        before = width
    return {**places, "pool": ("resolution", before), "classifier": ("resolution", before)}


def _lower(table: ResNetTable, architecture: Architecture) -> list[BlockSpec]:
    blocks = _stem(table, architecture)
    for s, stage in enumerate(table.stages, start=1):
        width = architecture[f"stage{s}.width"]
        for b in range(stage.base_depth + architecture[f"stage{s}.extra_depth"]):
            place = f"stage{s}.block{b}"
            blocks.append(_bottleneck(place, width, architecture[f"{place}.expand_ratio"], blocks[-1], stage.stride if b == 0 else 1))
    last = blocks[-1]
    return [
        *blocks,
        BlockSpec("pool", last.output_side, last.out_channels, last.out_channels, name="pool"),
        BlockSpec("linear", 1, last.out_channels, table.classes, name="classifier"),
    ]


def _stem(table: ResNetTable, architecture: Architecture) -> list[BlockSpec]:
    inner, width = architecture["stem.inner_width"], architecture["stem.width"]
    first = BlockSpec("conv_bn", architecture["resolution"], table.image_channels, inner, kernel_size=3, stride=2, activation="relu", name="stem")
    side = first.output_side
    middle = BlockSpec("conv_bn", side, inner, inner, kernel_size=3, activation="relu", residual=True, name="stem_middle")
    last = BlockSpec("conv_bn", side, inner, width, kernel_size=3, activation="relu", name="stem_out")
    pool = BlockSpec("max_pool", side, width, width, kernel_size=3, stride=2, name="max_pool")
    return [first, *[middle] * architecture["stem.middle"], last, *[pool] * table.max_pool]


def _bottleneck(place: str, width: int, expand_ratio: float, before: BlockSpec, stride: int) -> BlockSpec:
    plain = stride == 1 and before.out_channels == width
    return BlockSpec(
        "bottleneck", before.output_side, before.out_channels, width, make_divisible(round(width * expand_ratio)), kernel_size=3, stride=stride,
        activation="relu", residual=True, shortcut="identity" if plain else "conv_bn", name=place,
    )  # fmt: skip
