"""The Once-for-All MobileNetV3 family (Cai et al., ICLR 2020): elastic resolution, depth, kernel and expansion.

One lowering, four tables: w1.0 and w1.2 for ImageNet, tiny for images of 28 to 32 pixels, and tiny at a quarter of its width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from supernets.blocks import BlockSpec, make_divisible
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions, stages
from supernets.spaces.table import Table, full_name, with_options

KERNEL_SIZES = (3, 5, 7)
EXPAND_RATIOS = (3, 4, 6)
DEPTHS = (2, 3, 4)
SE_REDUCTION = 4


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one width; the first block has the stride."""

    out_channels: int
    stride: int
    activation: str
    squeeze_excitation: bool


@dataclass(frozen=True)
class MobileNetV3Table(Table):
    """The fixed figures of one space of the family."""

    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    final_expand_channels: int
    feature_mix_channels: int


IMAGENET_STAGES = ((24, 2, "relu", False), (40, 2, "relu", True), (80, 2, "h_swish", False), (112, 1, "h_swish", True), (160, 2, "h_swish", True))


def _imagenet_table(name: str, width: float) -> MobileNetV3Table:
    elastic = tuple(Stage(make_divisible(channels * width), stride, act, se) for channels, stride, act, se in IMAGENET_STAGES)
    wide = [make_divisible(channels * width) for channels in (16, 960, 1280)]
    return MobileNetV3Table(name, tuple(range(128, 225, 4)), 4, 3, 1000, wide[0], 2, elastic, wide[1], wide[2])


W1_0 = _imagenet_table("ofa-mobilenetv3-w1.0", 1.0)
W1_2 = _imagenet_table("ofa-mobilenetv3-w1.2", 1.2)
TINY = MobileNetV3Table(
    name="ofa-mobilenetv3-tiny", resolutions=(20, 24, 28, 32), resolution_step=4, image_channels=1, classes=10, stem_channels=16, stem_stride=2,
    stages=(Stage(16, 1, "relu", False), Stage(32, 2, "h_swish", True), Stage(64, 2, "h_swish", True)),
    final_expand_channels=192, feature_mix_channels=256,
)  # fmt: skip
TINY_W0_25 = replace(  # a quarter of the widths, but never less than 8: too few for their images, as ImageNet's networks are
    TINY, name="ofa-mobilenetv3-tiny-w0.25", resolutions=(16, 20, 24), stem_channels=8,
    stages=tuple(replace(stage, out_channels=make_divisible(0.25 * stage.out_channels)) for stage in TINY.stages),
    final_expand_channels=48, feature_mix_channels=64,
)  # fmt: skip


def w1_0(options: SpaceOptions) -> SearchSpace:
    """Return the width-1.0 ImageNet space."""
    return mobilenetv3_space(W1_0, options)


def w1_2(options: SpaceOptions) -> SearchSpace:
    """Return the width-1.2 ImageNet space."""
    return mobilenetv3_space(W1_2, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 28 to 32 pixels, grey unless told otherwise."""
    return mobilenetv3_space(TINY, options)


def tiny_w0_25(options: SpaceOptions) -> SearchSpace:
    """Return the space of very narrow networks for images of 16 to 24 pixels, grey unless told otherwise."""
    return mobilenetv3_space(TINY_W0_25, options)


def mobilenetv3_space(table: MobileNetV3Table, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step.
    """
    changed = with_options(table, options)
    return SearchSpace(full_name(table, changed), _choices(changed), partial(_lower, changed), _block_choices(changed))


def _choices(table: MobileNetV3Table) -> tuple[Choice, ...]:
    choices = [Choice("resolution", table.resolutions)]
    for s in range(1, len(table.stages) + 1):
        depth = f"stage{s}.depth"
        choices.append(Choice(depth, DEPTHS))
        for b in range(max(DEPTHS)):
            choices += stages.switched(f"stage{s}.block{b}.kernel_size", KERNEL_SIZES, depth, DEPTHS, b)
            choices += stages.switched(f"stage{s}.block{b}.expand_ratio", EXPAND_RATIOS, depth, DEPTHS, b)
    return tuple(choices)


def _block_choices(table: MobileNetV3Table) -> dict[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {
        name: ("resolution",) for name in ("stem", "first_block", "final_expand", "pool", "feature_mix", "classifier")
    }
    for s in range(1, len(table.stages) + 1):
        for b in range(max(DEPTHS)):
            place = f"stage{s}.block{b}"
            places[place] = ("resolution", f"{place}.kernel_size", f"{place}.expand_ratio")
    return places


def _lower(table: MobileNetV3Table, architecture: Architecture) -> list[BlockSpec]:
    stem = BlockSpec("conv_bn", architecture["resolution"], table.image_channels, table.stem_channels,
                     kernel_size=3, stride=table.stem_stride, activation="h_swish", name="stem")  # fmt: skip
    first = BlockSpec("mbconv", stem.output_side, stem.out_channels, stem.out_channels, stem.out_channels,
                      kernel_size=3, activation="relu", residual=True, name="first_block")  # fmt: skip
    blocks = [stem, first]
    for s, stage in enumerate(table.stages, start=1):
        for b in range(architecture[f"stage{s}.depth"]):
            blocks.append(_elastic_block(architecture, f"stage{s}.block{b}", stage, blocks[-1], stride=stage.stride if b == 0 else 1, residual=b > 0))
    last = blocks[-1]
    side, wide, mixed = last.output_side, table.final_expand_channels, table.feature_mix_channels
    return [
        *blocks,
        BlockSpec("conv_bn", side, last.out_channels, wide, activation="h_swish", name="final_expand"),
        BlockSpec("pool", side, wide, wide, name="pool"),
        BlockSpec("conv", 1, wide, mixed, activation="h_swish", name="feature_mix"),
        BlockSpec("linear", 1, mixed, table.classes, name="classifier"),
    ]


def _elastic_block(architecture: Architecture, place: str, stage: Stage, before: BlockSpec, *, stride: int, residual: bool) -> BlockSpec:
    mid_channels = make_divisible(round(before.out_channels * architecture[f"{place}.expand_ratio"]))
    return BlockSpec(
        "mbconv", before.output_side, before.out_channels, stage.out_channels, mid_channels,
        kernel_size=architecture[f"{place}.kernel_size"], stride=stride,
        se_channels=make_divisible(mid_channels // SE_REDUCTION) if stage.squeeze_excitation else 0,
        activation=stage.activation, residual=residual, name=place,
    )  # fmt: skip
