"""Blocks beyond mobile ones: what they are made of, what they cost by hand, which are refused, how they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supernets import counts
from supernets.blocks import BlockSpec

SWISH_GATE = {"se_activation": "swish", "se_gate": "sigmoid"}


def parts(block: BlockSpec) -> list[tuple[str, int, int, int, int, bool, bool, str]]:
    """Return (part, input side, in, out, kernel, norm, bias, activation) of each convolution."""
    return [(c.name.rpartition(".")[2], c.input_side, c.in_channels, c.out_channels, c.kernel_size, c.norm, c.bias, c.activation)
            for c in block.convolutions()]  # fmt: skip


def test_bottleneck_is_three_convolutions_and_a_projection_behind_the_pool() -> None:
    block = BlockSpec("bottleneck", 28, 64, 256, 48, kernel_size=3, stride=2, activation="relu", residual=True, shortcut="conv_bn")
    assert parts(block) == [
        ("reduce", 28, 64, 48, 1, True, False, "relu"), ("spatial", 28, 48, 48, 3, True, False, "relu"),
        ("restore", 14, 48, 256, 1, True, False, "none"), ("shortcut", 14, 64, 256, 1, True, False, "none"),
    ]  # fmt: skip
    assert block.sum_activation == "relu"
    assert counts.block_macs(block) == 64 * 48 * 28**2 + 9 * 48 * 48 * 14**2 + 48 * 256 * 14**2 + 64 * 256 * 14**2
    assert counts.block_parameters(block) == 64 * 48 + 9 * 48**2 + 48 * 256 + 64 * 256 + 2 * (48 + 48 + 256 + 256)


def test_mobile_block_has_its_gate_s_activations_and_a_projection_without_norm() -> None:
    block = BlockSpec(
        "mbconv", 9, 24, 40, 144, kernel_size=5, stride=2, se_channels=6, activation="swish", residual=True, shortcut="conv", **SWISH_GATE
    )
    assert [part[-1] for part in parts(block)] == ["swish", "swish", "swish", "sigmoid", "none", "none"]
    assert parts(block)[-1] == ("shortcut", 5, 24, 40, 1, False, False, "none")
    assert counts.block_parameters(block) - counts.block_parameters(replace(block, residual=False)) == 24 * 40
    assert counts.block_macs(block) - counts.block_macs(replace(block, residual=False)) == 24 * 40 * 5**2


def test_deployed_block_of_repvgg_has_a_bias_and_no_norm() -> None:
    block = BlockSpec("conv_bias", 14, 96, 192, kernel_size=3, stride=2, activation="relu", groups=4)
    assert counts.block_macs(block) == 9 * 24 * 192 * 7**2
    assert counts.block_tensors(block) == {"block.conv.weight": (192, 24, 3, 3), "block.conv.bias": (192,)}


def test_pools_have_sides_and_no_tensors() -> None:
    block = BlockSpec("max_pool", 111, 64, 64, kernel_size=3, stride=2)
    assert (block.output_side, counts.block_macs(block), counts.block_tensors(block)) == (56, 0, {})
    assert counts.block_peak_activation_elements(block) == 64 * 111**2 + 64 * 56**2


def test_peak_activation_counts_the_map_that_a_projection_is_added_to() -> None:
    block = BlockSpec("bottleneck", 8, 16, 64, 8, activation="relu", residual=True, shortcut="conv_bn")
    assert counts.block_peak_activation_elements(block) == (16 + 64 + 64) * 8**2
    gated = BlockSpec("conv_bn", 8, 1, 64, se_channels=200)
    assert counts.block_peak_activation_elements(gated) == 64 + 200 + 64 * 8**2  # the map waits for its gate


def test_key_of_a_block_with_details_ends_in_them_and_others_are_as_they_were() -> None:
    gated = BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=3, se_channels=4, activation="swish", residual=True, **SWISH_GATE)
    assert gated.key == "mbconv-s8-i16-m48-o16-k3-t1-se4-swish-r1-g1-se_activation.swish-se_gate.sigmoid"
    assert replace(gated, se_channels=0).key == "mbconv-s8-i16-m48-o16-k3-t1-se0-swish-r1-g1"
    bottleneck = BlockSpec("bottleneck", 8, 16, 64, 8, kernel_size=3, activation="relu", residual=True, shortcut="conv_bn")
    assert bottleneck.key == "bottleneck-s8-i16-m8-o64-k3-t1-se0-relu-r1-g1-shortcut.conv_bn"
    assert replace(bottleneck, residual=False).key == "bottleneck-s8-i16-m8-o64-k3-t1-se0-relu-r0-g1"


def test_details_of_what_a_block_does_not_have_do_not_tell_it_apart() -> None:
    plain = BlockSpec("mbconv", 8, 16, 24, 48)
    assert BlockSpec("mbconv", 8, 16, 24, 48, shortcut="conv", **SWISH_GATE) == plain
    assert hash(BlockSpec("mbconv", 8, 16, 24, 48, shortcut="conv", **SWISH_GATE)) == hash(plain)


def test_block_is_written_without_details_at_their_defaults_as_older_files_are() -> None:
    plain = BlockSpec("mbconv", 8, 16, 24, 48)
    assert set(plain.to_dict()) == {
        "operator", "input_side", "in_channels", "out_channels", "mid_channels", "kernel_size", "stride", "se_channels", "activation", "residual",
        "groups", "name",
    }  # fmt: skip
    detailed = BlockSpec("mbconv", 8, 16, 24, 48, se_channels=4, residual=True, shortcut="conv", **SWISH_GATE)
    assert detailed.to_dict().keys() - plain.to_dict().keys() == {"se_activation", "se_gate", "shortcut"}
    assert BlockSpec.from_dict(detailed.to_dict()) == detailed and BlockSpec.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"shortcut": "zeros"}, "shortcut 'zeros' of block 'b' is unknown; expected one of identity, pool, conv, conv_bn"),
     ({"se_gate": "tanh"}, "se_gate 'tanh' of block 'b' is unknown; expected one of none, relu"),
     ({"shortcut": "conv"}, "block 'b' cannot be residual by the shortcut 'conv': stride 1, 16 to 16 channels"),
     ({"shortcut": "pool"}, "block 'b' cannot be residual by the shortcut 'pool': stride 1, 16 to 16 channels"),
     ({"stride": 2}, "block 'b' cannot be residual: stride 2, 16 to 16 channels"),
     ({"stride": 3, "shortcut": "conv"}, "block 'b' cannot be residual by the shortcut 'conv': stride 3, 16 to 16 channels"),
     ({"out_channels": 24, "stride": 2, "shortcut": "pool"}, "by the shortcut 'pool': stride 2, 16 to 24 channels"),
     ({"operator": "bottleneck", "groups": 5}, "groups of block 'b' is 5; it must divide 48 and 48 channels"),
     ({"operator": "max_pool"}, "mid_channels of max_pool block 'b' is 48; only mbconv and bottleneck have it, and need it")],
)  # fmt: skip
def test_impossible_block_is_refused_naming_the_field_and_its_value(changed: dict[str, object], said: str) -> None:
    fields = {**BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=3, residual=True, se_channels=4, name="b").to_dict(), **changed}
    with pytest.raises(ValueError, match=said):
        BlockSpec.from_dict(fields)
