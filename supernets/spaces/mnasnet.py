"""The factorised hierarchical space of MnasNet (Tan et al., CVPR 2019): each stage chooses its own kind of layer.

A stage is what the paper calls a block: some identical layers, of which the first has the stride. It chooses convolution,
kernel, squeeze-and-excitation, skip, width and depth. A skip of `pool` averages over the stride and projects where the width
changes, so that first layers have one too; `identity` skips only layers that change neither side nor width. Equal networks
are equal architectures: widths of a stage and of the one before it are either never or always equal (a table that mixes
both is refused), and a stage of one layer, where identity would skip nothing, chooses its skip (`lone_skip`) without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from supernets.blocks import BlockSpec
from supernets.space import Architecture, Choice, SearchSpace
from supernets.spaces import SpaceOptions, stages
from supernets.spaces.table import Table, full_name, with_options

CONVOLUTIONS = ("sepconv", "mbconv3", "mbconv6", "conv")  # the regular one costs most
EXPAND_RATIOS = {"sepconv": 1, "mbconv3": 3, "mbconv6": 6}
KERNEL_SIZES = (3, 5)
SE_RATIOS = (0, 0.25)  # of a layer's input width
SKIPS = ("none", "identity", "pool")


@dataclass(frozen=True)
class Stage:
    """A run of identical layers; the first has the stride. `reference_depth` is MobileNetV2's: one more and one less are choices."""

    widths: tuple[int, ...]
    reference_depth: int
    stride: int

    @property
    def depths(self) -> tuple[int, ...]:
        """The numbers of layers to choose from: at least one."""
        return tuple(range(max(1, self.reference_depth - 1), self.reference_depth + 2))


@dataclass(frozen=True)
class MnasTable(Table):
    """The fixed figures of one space of the family; `head_channels` 0: no convolution before the pool."""

    stem_channels: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head_channels: int


# 0.75, 1 and 1.25 times MobileNetV2's widths in eights, no two alike; where the published MnasNet-A1 and -B1 are off that grid
# (112 and 192), those in place of the largest.
IMAGENET = MnasTable(
    name="mnasnet", resolutions=(224,), resolution_step=4, image_channels=3, classes=1000, stem_channels=32, stem_stride=2,
    stages=(
        Stage((8, 16, 24), 1, 1), Stage((16, 24, 32), 2, 2), Stage((24, 32, 40), 3, 2), Stage((48, 64, 80), 4, 2), Stage((72, 96, 112), 3, 1),
        Stage((120, 160, 192), 3, 2), Stage((240, 320, 400), 1, 1),
    ),
    head_channels=1280,
)  # fmt: skip
SMALL = MnasTable(  # for a third of A1's latency, around the published MnasNet-small
    name="mnasnet-small", resolutions=(224,), resolution_step=4, image_channels=3, classes=1000, stem_channels=8, stem_stride=2,
    stages=(
        Stage((8,), 1, 1), Stage((8, 16, 24), 2, 2), Stage((16, 24, 32), 3, 2), Stage((32,), 4, 2), Stage((32,), 3, 1),
        Stage((72, 88, 104), 3, 2), Stage((112, 144, 176), 1, 1),
    ),
    head_channels=1280,
)  # fmt: skip
TINY = MnasTable(
    name="mnasnet-tiny", resolutions=(28,), resolution_step=4, image_channels=1, classes=10, stem_channels=8, stem_stride=2,
    stages=(Stage((16,), 1, 1), Stage((24, 32), 2, 2), Stage((64,), 2, 2)), head_channels=192,
)  # fmt: skip


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space of the paper's size."""
    return mnasnet_space(IMAGENET, options)


def small(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space of small networks."""
    return mnasnet_space(SMALL, options)


def tiny(options: SpaceOptions) -> SearchSpace:
    """Return the space for images of 28 pixels, grey unless told otherwise."""
    return mnasnet_space(TINY, options)


def mnasnet_space(table: MnasTable, options: SpaceOptions) -> SearchSpace:
    """Return the search space of a table with a user's options.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step, or a stage can both keep and change its input's width.
    """
    changed = with_options(table, options)
    return SearchSpace(full_name(table, changed), _choices(changed), partial(_lower, changed), _block_choices(changed))


def _keeps_shape(table: MnasTable, number: int) -> bool:
    """Return whether the first layer of a stage changes neither side nor width, whatever is chosen."""
    stage = table.stages[number]
    before = table.stages[number - 1].widths if number else (table.stem_channels,)
    if stage.stride > 1 or not set(stage.widths) & set(before):
        return False
    if stage.widths == before and len(before) == 1:
        return True
    raise ValueError(
        f"stage {number + 1} of space {table.name!r} has widths {stage.widths} after {before} at stride 1, so an identity skip may or may not"
        " apply; expected widths that are all different, or one that is the same"
    )


def _choices(table: MnasTable) -> tuple[Choice, ...]:
    choices = [Choice("resolution", table.resolutions)]
    for s, stage in enumerate(table.stages, start=1):
        choices += [
            Choice(f"stage{s}.convolution", CONVOLUTIONS), Choice(f"stage{s}.kernel_size", KERNEL_SIZES), Choice(f"stage{s}.se_ratio", SE_RATIOS),
            *stages.chosen(f"stage{s}.width", stage.widths), *stages.chosen(f"stage{s}.depth", stage.depths),
            *_skip_choices(table, s - 1),
        ]  # fmt: skip
    return tuple(choices)


def _skip_choices(table: MnasTable, number: int) -> list[Choice]:
    depths, place = table.stages[number].depths, f"stage{number + 1}"
    if _keeps_shape(table, number):
        return [Choice(f"{place}.skip", ("none", "identity"))]
    if min(depths) > 1:
        return [Choice(f"{place}.skip", SKIPS)]
    skip = Choice(f"{place}.skip", SKIPS, f"{place}.depth", tuple(depth for depth in depths if depth > 1))
    return [skip, Choice(f"{place}.lone_skip", ("none", "pool"), f"{place}.depth", (1,))]


def _block_choices(table: MnasTable) -> dict[str, tuple[str, ...]]:
    known = {choice.name for choice in _choices(table)}
    places: dict[str, tuple[str, ...]] = {"stem": ("resolution",)}
    before = ""
    for s, stage in enumerate(table.stages, start=1):
        width = f"stage{s}.width"
        own = [f"stage{s}.{kind}" for kind in ("convolution", "kernel_size", "se_ratio", "width", "skip")]
        for b in range(max(stage.depths)):
            first = [before, f"stage{s}.lone_skip"] if b == 0 else []
            depth = [f"stage{s}.depth"] if b >= min(stage.depths) or f"stage{s}.lone_skip" in known.intersection(first) else []
            places[f"stage{s}.block{b}"] = ("resolution", *(name for name in [*first, *depth, *own] if name in known))
        before = width
    last = ("resolution", *([before] if before in known else []))
    head = dict.fromkeys(["feature_mix"] if table.head_channels else [], last)
    return {**places, **head, "pool": ("resolution",) if head else last, "classifier": ("resolution",) if head else last}


def _lower(table: MnasTable, architecture: Architecture) -> list[BlockSpec]:
    blocks = [BlockSpec("conv_bn", architecture["resolution"], table.image_channels, table.stem_channels,
                        kernel_size=3, stride=table.stem_stride, activation="relu", name="stem")]  # fmt: skip
    for s, stage in enumerate(table.stages, start=1):
        width = stages.value(architecture, f"stage{s}.width", stage.widths)
        for b in range(stages.value(architecture, f"stage{s}.depth", stage.depths)):
            blocks.append(_layer(architecture, f"stage{s}", b, width, stage.stride if b == 0 else 1, blocks[-1]))
    last = blocks[-1]
    if table.head_channels:
        blocks.append(BlockSpec("conv_bn", last.output_side, last.out_channels, table.head_channels, activation="relu", name="feature_mix"))
    last = blocks[-1]
    return [
        *blocks,
        BlockSpec("pool", last.output_side, last.out_channels, last.out_channels, name="pool"),
        BlockSpec("linear", 1, last.out_channels, table.classes, name="classifier"),
    ]


def _layer(architecture: Architecture, stage: str, number: int, width: int, stride: int, before: BlockSpec) -> BlockSpec:
    convolution, source = architecture[f"{stage}.convolution"], before.out_channels
    skip = architecture[f"{stage}.skip"] or architecture[f"{stage}.lone_skip"]
    same = source == width and stride == 1
    return BlockSpec(
        "conv_bn" if convolution == "conv" else "mbconv", before.output_side, source, width,
        0 if convolution == "conv" else source * EXPAND_RATIOS[convolution],
        kernel_size=architecture[f"{stage}.kernel_size"], stride=stride, activation="relu",
        se_channels=max(1, int(source * architecture[f"{stage}.se_ratio"])) if architecture[f"{stage}.se_ratio"] else 0, se_gate="sigmoid",
        residual=skip == "pool" or (skip == "identity" and same),
        shortcut="identity" if same else "pool" if source == width else "conv", name=f"{stage}.block{number}",
    )  # fmt: skip
