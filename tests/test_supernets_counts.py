"""MACs and parameters against published figures, against formulas written out here, and against fvcore."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from supernets import counts
from supernets.blocks import ACTIVATIONS, OPERATORS, BlockSpec, make_divisible
from supernets.space import SearchSpace
from supernets.spaces import space
from supernets.spaces.ofa_config import from_ofa_config

# A subnet published with its costs, which 2,161 others agree with (w1.0 at 224).
PUBLISHED = {
    "ks": [5, 7, 5, 5, 3, 3, 3, 7, 5, 5, 3, 7, 7, 3, 3, 3, 5, 5, 5, 5],
    "e": [4, 3, 4, 4, 4, 6, 3, 4, 4, 3, 4, 3, 3, 6, 6, 6, 4, 3, 4, 4],
    "d": [2, 3, 2, 4, 3],
    "r": [224],
}
SIDES = {  # resolution → sides after the stem and after each stage
    128: [64, 32, 16, 8, 8, 4], 144: [72, 36, 18, 9, 9, 5], 160: [80, 40, 20, 10, 10, 5], 176: [88, 44, 22, 11, 11, 6], 192: [96, 48, 24, 12, 12, 6],
    208: [104, 52, 26, 13, 13, 7], 224: [112, 56, 28, 14, 14, 7], 240: [120, 60, 30, 15, 15, 8], 256: [128, 64, 32, 16, 16, 8],
}  # fmt: skip


def last_blocks_of_stages(blocks: list[BlockSpec]) -> list[BlockSpec]:
    """Return the stem and the last block of each stage."""
    return [blocks[0], *{block.name.partition(".")[0]: block for block in blocks if block.name.startswith("stage")}.values()]


def test_published_subnet_has_its_published_costs() -> None:
    w1_0 = space("ofa-mobilenetv3-w1.0")
    blocks = w1_0.blocks(from_ofa_config(w1_0, PUBLISHED))
    assert counts.macs(blocks) == 255_502_624
    assert counts.parameters(blocks) == 5_029_656


@pytest.mark.parametrize("resolution", SIDES)
@pytest.mark.parametrize("width", ["w1.0", "w1.2"])
def test_sides_of_feature_maps_are_those_of_the_family(width: str, resolution: int) -> None:
    family = space(f"ofa-mobilenetv3-{width}:resolutions={resolution}")
    for architecture in (family.smallest(), family.largest()):
        blocks = family.blocks(architecture)
        assert [block.output_side for block in last_blocks_of_stages(blocks)] == SIDES[resolution]
        assert [block.output_side for block in blocks[-4:]] == [SIDES[resolution][-1], 1, 1, 1]


@pytest.mark.parametrize(
    ("width", "stem", "stages", "head"),
    [("w1.0", 16, [24, 40, 80, 112, 160], [960, 960, 1280, 1000]), ("w1.2", 24, [32, 48, 96, 136, 192], [1152, 1152, 1536, 1000])],
)
def test_widths_are_those_of_the_family(width: str, stem: int, stages: list[int], head: list[int]) -> None:
    family = space(f"ofa-mobilenetv3-{width}")
    blocks = family.blocks(family.largest())
    assert [block.out_channels for block in last_blocks_of_stages(blocks)] == [stem, *stages]
    assert [block.out_channels for block in blocks[-4:]] == head
    assert (blocks[1].in_channels, blocks[1].mid_channels, blocks[1].out_channels) == (stem, stem, stem)


def test_details_of_blocks_are_those_of_the_family() -> None:
    family = space("ofa-mobilenetv3-w1.0")
    blocks = {block.name: block for block in family.blocks(family.largest())}
    stages = [[block for name, block in blocks.items() if name.startswith(f"stage{s}.")] for s in range(1, 6)]
    assert [stage[0].stride for stage in stages] == [2, 2, 2, 1, 2]
    assert [stage[0].activation for stage in stages] == ["relu", "relu", "h_swish", "h_swish", "h_swish"]
    assert [stage[0].se_channels > 0 for stage in stages] == [False, True, False, True, True]
    assert [[block.residual for block in stage] for stage in stages] == [[False, True, True, True]] * 5
    assert [block.stride for stage in stages for block in stage[1:]] == [1] * 15
    assert (blocks["stage2.block0"].mid_channels, blocks["stage2.block0"].se_channels) == (144, 40)  # 24 * 6; 144 // 4 = 36 → 40
    assert (blocks["first_block"].residual, blocks["first_block"].activation, blocks["first_block"].se_channels) == (True, "relu", 0)
    assert (blocks["stem"].kernel_size, blocks["stem"].stride, blocks["stem"].activation) == (3, 2, "h_swish")
    assert [blocks[name].activation for name in ("final_expand", "feature_mix", "classifier")] == ["h_swish", "h_swish", "none"]


@pytest.mark.parametrize(
    ("channels", "rounded"), [(19.2, 24), (16, 16), (1, 8), (11.9, 16), (12, 16), (36, 40), (1152, 1152), (92, 96), (91, 88), (66, 64), (67.2, 64)]
)
def test_widths_are_rounded_to_eights_and_never_down_by_more_than_a_tenth(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded


def test_width_12_has_the_published_extremes() -> None:
    """100.3 and 843 million, as published for 160 to 224; random subnets are 125 to 596 million, 327 in the mean."""
    family = space("ofa-mobilenetv3-w1.2:resolutions=160:224:4")
    assert counts.macs(family.blocks(family.smallest())) == pytest.approx(100.3e6, abs=0.05e6)
    assert counts.macs(family.blocks(family.largest())) == pytest.approx(843e6, abs=0.5e6)
    sampled = [counts.macs(family.blocks(family.decode(family.sample_population(1, np.random.default_rng(seed)))[0])) for seed in range(400)]
    assert np.mean(sampled) == pytest.approx(327e6, rel=0.03)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_costs_of_each_operator_are_those_of_the_formula() -> None:
    stem = BlockSpec("conv_bn", 32, 3, 16, kernel_size=3, stride=2, activation="h_swish")
    assert counts.block_macs(stem) == 3 * 16 * 9 * 16**2
    assert counts.block_parameters(stem) == 3 * 16 * 9 + 2 * 16
    inverted = BlockSpec("mbconv", 16, 24, 40, 72, kernel_size=5, stride=2, se_channels=24, activation="relu")
    assert counts.block_macs(inverted) == 24 * 72 * 16**2 + 72 * 25 * 8**2 + 2 * 72 * 24 + 72 * 40 * 8**2
    assert counts.block_parameters(inverted) == (24 * 72 + 2 * 72) + (72 * 25 + 2 * 72) + (2 * 72 * 24 + 24 + 72) + (72 * 40 + 2 * 40)
    mix = BlockSpec("conv", 1, 96, 128, activation="h_swish")
    assert (counts.block_macs(mix), counts.block_parameters(mix)) == (96 * 128, 96 * 128)
    classifier = BlockSpec("linear", 1, 128, 10)
    assert (counts.block_macs(classifier), counts.block_parameters(classifier)) == (1280, 1290)
    pool = BlockSpec("pool", 7, 96, 96)
    assert (counts.block_macs(pool), counts.block_parameters(pool)) == (0, 0)
    grouped = BlockSpec("conv_bn", 8, 32, 64, kernel_size=3, groups=4)
    assert counts.block_macs(grouped) == 8 * 64 * 9 * 8**2


def test_block_whose_width_is_not_expanded_has_no_expand_convolution() -> None:
    block = BlockSpec("mbconv", 16, 24, 24, 24, kernel_size=3, residual=True, activation="relu")
    assert [convolution.name for convolution in block.convolutions()] == ["block.depthwise", "block.project"]
    assert counts.block_macs(block) == (24 * 9 + 24 * 24) * 16**2


def test_peak_activation_counts_the_input_that_a_residual_holds() -> None:
    plain = BlockSpec("mbconv", 8, 16, 16, 64, kernel_size=3)
    held = BlockSpec("mbconv", 8, 16, 16, 64, kernel_size=3, residual=True)
    assert counts.block_peak_activation_elements(plain) == 2 * 64 * 8**2  # the depthwise convolution's input and output
    assert counts.block_peak_activation_elements(held) == 2 * 64 * 8**2 + 16 * 8**2
    assert counts.block_peak_activation_elements(BlockSpec("pool", 7, 96, 96)) == 96 * 49 + 96
    assert counts.peak_activation_elements([plain, held]) == 2 * 64 * 8**2 + 16 * 8**2
    assert counts.peak_activation_elements([]) == 0


def test_tensors_of_a_block_are_named_for_its_convolutions() -> None:
    block = BlockSpec("mbconv", 8, 16, 24, 64, kernel_size=5, se_channels=16, name="stage1.block0")
    tensors = counts.block_tensors(block)
    assert tensors["stage1.block0.depthwise.weight"] == (64, 1, 5, 5)
    assert tensors["stage1.block0.depthwise.bn.bias"] == (64,)
    assert tensors["stage1.block0.se_expand.bias"] == (64,)
    assert "stage1.block0.se_reduce.bn.weight" not in tensors
    assert "stage1.block0.project.bias" not in tensors


# --- the block itself -------------------------------------------------------------------------------------------------


def test_place_is_no_part_of_what_a_block_is() -> None:
    here, there = (BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=3, residual=True, name=name) for name in ("stage1.block1", "stage1.block2"))
    assert here == there
    assert here.key == there.key == "mbconv-s8-i16-m48-o16-k3-t1-se0-none-r1-g1"


def test_blocks_have_equal_keys_exactly_where_they_are_equal() -> None:
    family = space("ofa-mobilenetv3-tiny")
    population = family.sample_population(100, np.random.default_rng(8))
    blocks = {block for architecture in family.decode(population) for block in family.blocks(architecture)}
    assert len({block.key for block in blocks}) == len(blocks)
    for block in blocks:
        assert BlockSpec.from_dict(block.to_dict()) == block


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"operator": "conv3d"}, f"operator 'conv3d' of block 'b' is unknown; expected one of {', '.join(OPERATORS)}"),
     ({"activation": "gelu"}, f"activation 'gelu' of block 'b' is unknown; expected one of {', '.join(ACTIVATIONS)}"),
     ({"input_side": 0}, "input_side of block 'b' is 0; expected at least 1"),
     ({"kernel_size": 4}, "kernel_size of block 'b' is 4; expected an odd number"),
     ({"mid_channels": 0}, "mid_channels of mbconv block 'b' is 0; only mbconv and bottleneck have it, and need it"),
     ({"operator": "pool"}, "mid_channels of pool block 'b' is 48; only mbconv and bottleneck have it"),
     ({"stride": 2}, "block 'b' cannot be residual: stride 2, 16 to 16 channels"),
     ({"out_channels": 24}, "block 'b' cannot be residual: stride 1, 16 to 24 channels"),
     ({"groups": 3}, "groups of block 'b' is 3; it must divide 16 and 16 channels"),
     ({"se": 4}, "a block has no field se; known fields: operator, input_side")],
)  # fmt: skip
def test_impossible_block_is_refused_naming_the_field_and_its_value(changed: dict[str, object], said: str) -> None:
    fields = BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=3, residual=True, name="b").to_dict()
    with pytest.raises(ValueError, match=said):
        BlockSpec.from_dict({**fields, **changed})


# --- an independent count ---------------------------------------------------------------------------------------------


def fvcore_macs(family: SearchSpace, seed: int) -> tuple[int, int]:
    """Return our count and fvcore's for a random architecture: convolutions and linear layers of the traced network."""
    import torch
    from fvcore.nn import FlopCountAnalysis

    from supernets.networks.static import StaticNetwork

    blocks = family.blocks(family.sample(np.random.default_rng(seed)))
    side, channels = blocks[0].input_side, blocks[0].in_channels
    analysis = FlopCountAnalysis(StaticNetwork(blocks).eval(), torch.zeros(1, channels, side, side))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    by_operator = analysis.by_operator()
    return counts.macs(blocks), int(by_operator["conv"] + by_operator["linear"])


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit, which fvcore traces with
@pytest.mark.parametrize(
    ("name", "seeds"), [("ofa-mobilenetv3-tiny", range(30)), ("ofa-mobilenetv3-w1.0", range(10)), ("ofa-mobilenetv3-w1.2", range(10))]
)
def test_macs_of_random_subnets_are_those_fvcore_counts(name: str, seeds: range, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    family = space(name)
    for seed in seeds:
        ours, theirs = fvcore_macs(family, seed)
        assert ours == theirs, seed
