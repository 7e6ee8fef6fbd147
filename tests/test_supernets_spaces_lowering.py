"""What the networks of each space are made of, by the tables of their papers."""

from __future__ import annotations

import pytest

from supernets import counts
from supernets.blocks import BlockSpec
from supernets.space import Architecture, SearchSpace
from supernets.spaces import space
from supernets.spaces.repvgg import SKELETONS


def by_name(family: SearchSpace, architecture: Architecture) -> dict[str, BlockSpec]:
    return {block.name: block for block in family.blocks(architecture)}


def changed(family: SearchSpace, architecture: Architecture, **values: int | float | str) -> Architecture:
    """Return the architecture with other values (dots as double underscores); slots that this switches on take their largest."""
    whole = {choice.name: architecture[choice.name] if architecture[choice.name] is not None else choice.values[-1] for choice in family.choices}
    return family.architecture({**whole, **{name.replace("__", "."): value for name, value in values.items()}})


# --- Once-for-All: ProxylessNAS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "widths"),
    [("ofa-proxyless-w1.3", [40, 24, 32, 56, 104, 128, 248, 416, 1664]), ("ofa-proxyless-w1.0", [32, 16, 24, 40, 80, 96, 192, 320, 1280])],
)  # fmt: skip
def test_proxyless_has_its_widths_strides_and_depths(name: str, widths: list[int]) -> None:
    family = space(name)
    blocks = family.blocks(family.largest())
    firsts = [block for block in blocks if block.name.endswith("block0")]
    assert [blocks[0].out_channels, blocks[1].out_channels, *(block.out_channels for block in firsts), blocks[-3].out_channels] == widths
    assert [block.stride for block in firsts] == [2, 2, 2, 1, 2, 1]
    assert len([block for block in blocks if block.name.startswith("stage")]) == 21
    assert not blocks[1].residual and blocks[1].mid_channels == blocks[1].in_channels
    assert {block.activation for block in blocks[:-2]} == {"relu6"} and not any(block.se_channels for block in blocks)
    assert [choice.name for choice in family.choices if choice.name.startswith("stage6")] == [
        "stage6.block0.kernel_size",
        "stage6.block0.expand_ratio",
    ]


# --- Once-for-All: ResNet50D -------------------------------------------------------------------------------------------

MIDS = {  # multiplier index → inner widths of the four stages for the three ratios
    0: [(32, 40, 56), (64, 88, 120), (136, 168, 232), (264, 336, 464)],
    1: [(40, 56, 72), (80, 104, 144), (160, 208, 288), (328, 408, 576)],
    2: [(48, 64, 88), (104, 128, 176), (208, 256, 360), (408, 512, 720)],
}
WIDTHS = {0: [168, 336, 664, 1328], 1: [208, 408, 816, 1640], 2: [256, 512, 1024, 2048]}
STEMS = {0: (24, 40), 1: (24, 48), 2: (32, 64)}


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_resnet_has_the_widths_of_every_multiplier_and_ratio(index: int, ratio: int) -> None:
    family = space("ofa-resnet50")
    inner, stem = STEMS[index]
    fixed = {f"stage{s}.width": (WIDTHS[index][s - 1],) for s in range(1, 5)}
    narrowed = family.restrict({**fixed, "expand_ratio": ((0.2, 0.25, 0.35)[ratio],), "stem.inner_width": (inner,), "stem.width": (stem,)})
    blocks = by_name(narrowed, narrowed.largest())
    assert [blocks[f"stage{s}.block0"].mid_channels for s in range(1, 5)] == [mids[ratio] for mids in MIDS[index]]
    assert (blocks["stem"].out_channels, blocks["stem_middle"].residual, blocks["stem_out"].out_channels) == (inner, True, stem)


def test_resnet_has_its_strides_shortcuts_and_depths() -> None:
    family = space("ofa-resnet50:resolutions=224")
    largest, smallest = by_name(family, family.largest()), by_name(family, family.smallest())
    firsts = [largest[f"stage{s}.block0"] for s in range(1, 5)]
    assert [block.stride for block in firsts] == [1, 2, 2, 2]
    assert [block.input_side for block in [largest["max_pool"], *firsts]] == [112, 56, 56, 28, 14]
    assert {block.shortcut for block in firsts} == {"conv_bn"}
    assert {block.shortcut for name, block in largest.items() if name.startswith("stage") and not name.endswith("block0")} == {"identity"}
    depths = [[sum(name.startswith(f"stage{s}.") for name in blocks) for s in range(1, 5)] for blocks in (smallest, largest)]
    assert depths == [[2, 2, 4, 2], [4, 4, 6, 4]]
    assert "stem_middle" in largest and "stem_middle" not in smallest


# --- BigNAS and AttentiveNAS -------------------------------------------------------------------------------------------


def test_bignas_sizes_its_gates_by_the_block_s_input_and_attentivenas_by_its_inner_width() -> None:
    bignas, attentive = space("bignas"), space("attentivenas")
    block = by_name(bignas, bignas.smallest())["stage3.block1"]
    assert (block.in_channels, block.mid_channels, block.se_channels, block.se_activation, block.se_gate) == (40, 240, 10, "swish", "sigmoid")
    gated = by_name(attentive, attentive.smallest())
    assert (gated["stage3.block1"].mid_channels, gated["stage3.block1"].se_channels, gated["stage3.block1"].se_gate) == (128, 32, "h_sigmoid")
    assert [gated[f"stage{s}.block0"].se_channels > 0 for s in range(1, 8)] == [False, False, True, False, True, True, True]
    assert all(block.se_channels for name, block in by_name(bignas, bignas.largest()).items() if name.startswith("stage"))


def test_every_block_of_bignas_has_a_residual_path_unless_told_otherwise() -> None:
    family, plain = space("bignas"), space("bignas:shortcuts=identity")
    architecture = changed(family, family.smallest(), stage1__width=24, stage2__width=24)
    blocks = by_name(family, architecture)
    assert all(block.residual for name, block in blocks.items() if name.startswith("stage"))
    assert [blocks[f"stage{s}.block0"].shortcut for s in (1, 2, 3)] == ["conv", "pool", "conv"]
    blocks = by_name(plain, plain.architecture(architecture.values))
    assert [name for name, block in blocks.items() if block.residual] == [f"stage{s}.block1" for s in (2, 3, 4, 5, 6)]


def test_a_kernel_is_a_stage_s_unless_layers_have_their_own() -> None:
    family, layered = space("bignas"), space("bignas:kernels=layer")
    blocks = by_name(family, changed(family, family.largest(), stage5__kernel_size=3))
    assert {block.kernel_size for name, block in blocks.items() if name.startswith("stage5")} == {3}
    blocks = by_name(layered, changed(layered, layered.largest(), stage5__block2__kernel_size=3))
    assert [blocks[f"stage5.block{b}"].kernel_size for b in range(6)] == [5, 5, 3, 5, 5, 5]
    assert {choice.kind for choice in family.choices} == {choice.kind for choice in layered.choices}


def test_head_of_attentivenas_widens_before_the_pool_and_mixes_after_it() -> None:
    family = space("attentivenas")
    *_, wide, pool, mix, classifier = family.blocks(family.smallest())
    assert [block.operator for block in (wide, pool, mix, classifier)] == ["conv_bn", "pool", "conv", "linear"]
    assert [block.out_channels for block in (wide, pool, mix, classifier)] == [1296, 1296, 1792, 1000]


# --- MnasNet -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convolution", "operator", "mid"), [("conv", "conv_bn", 0), ("sepconv", "mbconv", 16), ("mbconv3", "mbconv", 48), ("mbconv6", "mbconv", 96)]
)  # fmt: skip
def test_each_convolution_of_mnasnet_is_its_block(convolution: str, operator: str, mid: int) -> None:
    family = space("mnasnet")
    architecture = changed(family, family.smallest(), stage1__width=16, stage2__convolution=convolution, stage2__se_ratio=0.25, stage2__kernel_size=5)
    block = by_name(family, architecture)["stage2.block0"]
    assert (block.operator, block.mid_channels, block.se_channels, block.se_gate, block.kernel_size, block.stride) == (
        operator,
        mid,
        4,
        "sigmoid",
        5,
        2,
    )


@pytest.mark.parametrize(
    ("skip", "residuals", "shortcuts"),
    [("none", [False, False, False], ["identity"] * 3), ("identity", [False, True, True], ["identity"] * 3),
     ("pool", [True, True, True], ["conv", "identity", "identity"])],
)  # fmt: skip
def test_each_skip_of_mnasnet_skips_the_layers_it_can(skip: str, residuals: list[bool], shortcuts: list[str]) -> None:
    family = space("mnasnet")
    blocks = by_name(family, changed(family, family.smallest(), stage2__depth=3, stage2__skip=skip))
    assert [blocks[f"stage2.block{b}"].residual for b in range(3)] == residuals
    assert [blocks[f"stage2.block{b}"].shortcut for b in range(3)] == shortcuts


def test_a_single_layer_of_mnasnet_skips_by_pooling_or_not_at_all() -> None:
    family = space("mnasnet")
    single = changed(family, family.smallest(), stage2__depth=1, stage2__lone_skip="pool")
    assert single["stage2.skip"] is None and by_name(family, single)["stage2.block0"].residual
    assert changed(family, single, stage2__depth=2)["stage2.lone_skip"] is None


def test_where_width_and_side_never_change_identity_skips_every_layer() -> None:
    family = space("mnasnet-small")
    blocks = by_name(family, changed(family, family.smallest(), stage1__skip="identity", stage5__skip="identity"))
    assert [blocks[f"stage{s}.block0"].residual for s in (1, 5)] == [True, True]


# --- RepVGG and RepNAS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("skeleton", "blocks", "branches"), [("a0", 22, 149), ("a2", 22, 149), ("b1", 28, 191), ("b3g4", 28, 191)])
def test_repnas_has_a_choice_for_each_branch_of_each_block(skeleton: str, blocks: int, branches: int) -> None:
    family = space(f"repnas:skeleton={skeleton}")
    lowered = family.blocks(family.smallest())
    assert len(lowered) == blocks + 2
    assert len([choice for choice in family.choices if choice.kind.startswith("branch_")]) == branches
    assert len([choice for choice in family.choices if choice.kind == "branch_skip"]) == blocks - 5  # not the stem, nor where a stage begins
    assert {(block.operator, block.kernel_size, block.activation) for block in lowered[:-2]} == {("conv_bias", 3, "relu")}


def test_deployed_costs_do_not_depend_on_the_branches() -> None:
    family = space("repnas")
    assert family.blocks(family.smallest()) == family.blocks(family.largest())
    assert counts.parameters(family.blocks(family.largest())) == counts.parameters(SKELETONS["a0"].blocks(224, 3, 1000))


def test_even_blocks_of_a_grouped_skeleton_have_groups_up_to_the_twenty_sixth() -> None:
    layers = SKELETONS["b1g4"].layers()
    assert [groups for *_, groups in layers] == [1, *[1, 4] * 13, 1]
    assert [(channels, stride) for name, channels, stride, _ in layers if name.endswith("block0")] == [(128, 2), (256, 2), (512, 2), (2048, 2)]


# --- small spaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ofa-proxyless-tiny", "ofa-resnet50-tiny", "bignas-tiny", "mnasnet-tiny", "repvgg-tiny", "repnas-tiny"])
def test_small_spaces_are_small_enough_to_train_on_two_cores(name: str) -> None:
    family = space(name)
    blocks = family.blocks(family.largest())
    assert counts.macs(blocks) < 26e6 and counts.parameters(blocks) < 0.6e6
    assert (blocks[0].in_channels, blocks[-1].out_channels) == (1, 10)
