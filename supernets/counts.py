"""Costs of BlockSpecs that need no device: MACs, parameters, activation memory.

MACs are multiply-adds of convolutions and linear layers, each counted once (what the papers of this field print as
"FLOPs"); norm, activation, pooling, gates and residual sums are not counted. Batch size is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from supernets.blocks import BlockSpec, Convolution


def convolution_macs(convolution: Convolution) -> int:
    """Return the multiply-adds of one convolution on one image."""
    return math.prod(convolution.weight_shape) * convolution.output_side**2


def block_macs(block: BlockSpec) -> int:
    """Return the multiply-adds of one block on one image."""
    return sum(convolution_macs(convolution) for convolution in block.convolutions())


def macs(blocks: Iterable[BlockSpec]) -> int:
    """Return the multiply-adds of a network on one image."""
    return sum(block_macs(block) for block in blocks)


def block_tensors(block: BlockSpec) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every learned tensor of a block (norm scale and shift included, running statistics not)."""
    tensors: dict[str, tuple[int, ...]] = {}
    for convolution in block.convolutions():
        channels = (convolution.out_channels,)
        tensors[f"{convolution.name}.weight"] = convolution.weight_shape
        if convolution.bias:
            tensors[f"{convolution.name}.bias"] = channels
        if convolution.norm:
            tensors[f"{convolution.name}.bn.weight"] = tensors[f"{convolution.name}.bn.bias"] = channels
    return tensors


def block_parameters(block: BlockSpec) -> int:
    """Return the number of learned values of one block."""
    return sum(math.prod(shape) for shape in block_tensors(block).values())


def parameters(blocks: Iterable[BlockSpec]) -> int:
    """Return the number of learned values of a network (kernel-transform matrices excluded: they are baked in at export)."""
    return sum(block_parameters(block) for block in blocks)


def block_peak_activation_elements(block: BlockSpec) -> int:
    """Return the most feature-map values alive at once in a block: one operation's input and output, plus what waits for the residual sum."""
    block_input = block.in_channels * block.input_side**2
    if block.operator in ("pool", "max_pool"):
        return block_input + block.out_channels * block.output_side**2
    peak = 0
    first = True
    for convolution in block.convolutions():
        part = convolution.name.rpartition(".")[2]
        source = convolution.in_channels * convolution.input_side**2
        result = convolution.out_channels * convolution.output_side**2
        gated_map = (block.mid_channels or block.out_channels) * block.output_side**2 if part in ("se_reduce", "se_expand") else 0
        held = block_input if block.residual and not first else 0
        if part == "shortcut":
            held = result  # the map that it is added to
        peak = max(peak, source + result + gated_map + held)
        first = False
    return peak


def peak_activation_elements(blocks: Iterable[BlockSpec]) -> int:
    """Return the most feature-map values alive at once in a network run block by block (times 4 for bytes in float32)."""
    return max((block_peak_activation_elements(block) for block in blocks), default=0)
