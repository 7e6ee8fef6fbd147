"""The BigNAS family (Yu et al., ECCV 2020): elastic resolution, and width, depth and kernel of each stage.

One lowering, the tables `bignas` and `bignas-tiny` here and AttentiveNAS's in a file of its own. Choices are a stage's; with the
option `kernels=layer` every block has a kernel of its own. Every block has a residual path; with `shortcuts=identity` only those
that change neither side nor width have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from supernets.blocks import BlockSpec, make_divisible
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions, stages
from supernets.spaces.table import Table, full_name, with_options

SE_RATIO = 0.25


@dataclass(frozen=True)
class Stage:
    """A run of mobile blocks of one width, kernel and expansion; the first block has the stride."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[int, ...]
    stride: int
    squeeze_excitation: bool = True


@dataclass(frozen=True)
class BigNasTable(Table):
    """The fixed figures of one space of the family.

    `se_sized_by` is the width that squeeze-and-excitation takes a quarter of: the block's `input`, or its `inner` one, rounded to
    eights, with a hard gate. `head_ratio` is 0 for one convolution to the head's width before the pool; else the factor by which one
    widens the last stage before the pool, and the one to the head's width stands after it.
    """

    stem_widths: tuple[int, ...]
    stem_stride: int
    stages: tuple[Stage, ...]
    head_widths: tuple[int, ...]
    head_ratio: int = 0
    se_sized_by: str = "input"
    kernels: str = "stage"
    shortcuts: str = "projection"


def _steps(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1, 8))


IMAGENET = BigNasTable(
    name="bignas", resolutions=(192, 224, 288, 320), resolution_step=4, image_channels=3, classes=1000, stem_widths=(32, 40), stem_stride=2,
    stages=(
        Stage(_steps(16, 24), (1, 2), (3,), (1,), 1),
        Stage(_steps(24, 32), (2, 3), (3,), (6,), 2),
        Stage(_steps(40, 48), (2, 3), (3, 5), (6,), 2),
        Stage(_steps(80, 88), (2, 3, 4), (3, 5), (6,), 2),
        Stage(_steps(112, 128), (2, 3, 4, 5, 6), (3, 5), (6,), 1),
        Stage(_steps(192, 216), (2, 3, 4, 5, 6), (3, 5), (6,), 2),
        Stage(_steps(320, 352), (1, 2), (3, 5), (6,), 1),
    ),
    head_widths=_steps(1280, 1408),
)  # fmt: skip
TINY = BigNasTable(
    name="bignas-tiny", resolutions=(20, 24, 28, 32), resolution_step=4, image_channels=1, classes=10, stem_widths=(16, 24), stem_stride=2,
    stages=(
        Stage((16, 24), (1, 2), (3,), (1,), 1),
        Stage((24, 32), (1, 2, 3), (3, 5), (4,), 2),
        Stage((48, 56, 64), (1, 2, 3), (3, 5), (4,), 2),
    ),
    head_widths=(192, 256),
)  # fmt: skip


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space."""
    return bignas_space(IMAGENET, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 28 to 32 pixels, grey unless told otherwise."""
    return bignas_space(TINY, options)


def bignas_space(table: BigNasTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step.
    """
    changed = with_options(table, options)
    return SearchSpace(full_name(table, changed), _choices(changed), partial(_lower, changed), _block_choices(changed))


def _choices(table: BigNasTable) -> tuple[Choice, ...]:
    choices = [Choice("resolution", table.resolutions), *stages.chosen("stem.width", table.stem_widths)]
    for s, stage in enumerate(table.stages, start=1):
        choices += stages.chosen(f"stage{s}.width", stage.widths)
        choices += stages.chosen(f"stage{s}.depth", stage.depths)
        if table.kernels == "layer":
            for b in range(max(stage.depths)):
                choices += stages.switched(f"stage{s}.block{b}.kernel_size", stage.kernel_sizes, f"stage{s}.depth", stage.depths, b)
        else:
            choices += stages.chosen(f"stage{s}.kernel_size", stage.kernel_sizes)
        choices += stages.chosen(f"stage{s}.expand_ratio", stage.expand_ratios)
    return tuple([*choices, *stages.chosen("head.width", table.head_widths)])


def _block_choices(table: BigNasTable) -> dict[str, tuple[str, ...]]:
    known = {choice.name for choice in _choices(table)}

    def places_of(*names: str) -> tuple[str, ...]:
        return ("resolution", *(name for name in names if name in known))

    places, before = {"stem": places_of("stem.width")}, "stem.width"
    for s, stage in enumerate(table.stages, start=1):
        width = f"stage{s}.width"
        switched_by_kernel = table.kernels == "layer" and len(stage.kernel_sizes) > 1
        for b in range(max(stage.depths)):
            source = [before] if b == 0 else []
            depth = [] if b < min(stage.depths) or switched_by_kernel else [f"stage{s}.depth"]
            places[f"stage{s}.block{b}"] = places_of(*source, width, _kernel_name(table, s, b), f"stage{s}.expand_ratio", *depth)
        before = width
    if table.head_ratio:
        return {**places, "final_expand": places_of(before), "pool": places_of(before), "feature_mix": places_of(before, "head.width"),
                "classifier": places_of("head.width")}  # fmt: skip
    return {**places, "feature_mix": places_of(before, "head.width"), "pool": places_of("head.width"), "classifier": places_of("head.width")}


def _kernel_name(table: BigNasTable, stage: int, block: int) -> str:
    return f"stage{stage}.block{block}.kernel_size" if table.kernels == "layer" else f"stage{stage}.kernel_size"


def _lower(table: BigNasTable, architecture: Architecture) -> list[BlockSpec]:
    blocks = [BlockSpec("conv_bn", architecture["resolution"], table.image_channels, stages.value(architecture, "stem.width", table.stem_widths),
                        kernel_size=3, stride=table.stem_stride, activation="swish", name="stem")]  # fmt: skip
    for s, stage in enumerate(table.stages, start=1):
        width = stages.value(architecture, f"stage{s}.width", stage.widths)
        expand_ratio = stages.value(architecture, f"stage{s}.expand_ratio", stage.expand_ratios)
        for b in range(stages.value(architecture, f"stage{s}.depth", stage.depths)):
            kernel_size = stages.value(architecture, _kernel_name(table, s, b), stage.kernel_sizes)
            stride = stage.stride if b == 0 else 1
            se_sized_by = table.se_sized_by if stage.squeeze_excitation else ""
            projected = table.shortcuts == "projection"
            blocks.append(_mobile_block(f"stage{s}.block{b}", blocks[-1], width, expand_ratio, kernel_size, stride, se_sized_by, projected))
    return [*blocks, *_head(table, blocks[-1], stages.value(architecture, "head.width", table.head_widths))]


def _mobile_block(place: str, before: BlockSpec, width: int, expand_ratio: int, kernel_size: int, stride: int, se_sized_by: str,
                  projected: bool) -> BlockSpec:  # fmt: skip
    source = before.out_channels
    inner = make_divisible(source * expand_ratio)
    by_input = se_sized_by == "input"
    se_channels = {"input": max(1, int(source * SE_RATIO)), "inner": make_divisible(inner * SE_RATIO)}.get(se_sized_by, 0)
    shortcut = "conv" if source != width else "pool" if stride > 1 else "identity"
    return BlockSpec(
        "mbconv", before.output_side, source, width, inner, kernel_size=kernel_size, stride=stride, activation="swish",
        se_channels=se_channels, se_activation="swish" if by_input else "relu", se_gate="sigmoid" if by_input else "h_sigmoid",
        residual=projected or shortcut == "identity", shortcut=shortcut, name=place,
    )  # fmt: skip


def _head(table: BigNasTable, last: BlockSpec, width: int) -> list[BlockSpec]:
    side, channels, wide = last.output_side, last.out_channels, last.out_channels * table.head_ratio
    classifier = BlockSpec("linear", 1, width, table.classes, name="classifier")
    if not table.head_ratio:
        mix = BlockSpec("conv_bn", side, channels, width, activation="swish", name="feature_mix")
        return [mix, BlockSpec("pool", side, width, width, name="pool"), classifier]
    return [
        BlockSpec("conv_bn", side, channels, wide, activation="swish", name="final_expand"),
        BlockSpec("pool", side, wide, wide, name="pool"),
        BlockSpec("conv", 1, wide, width, activation="swish", name="feature_mix"),
        classifier,
    ]
