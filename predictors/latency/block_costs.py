"""What a block moves and computes, counted from its shapes alone: the causes of latency that physical models weigh.

MACs are counted once a multiply-add, elements are values of tensors; batch size is one.
"""

from __future__ import annotations

import math

from supernets.blocks import BlockSpec
from supernets.counts import convolution_macs

PHYSICAL_COSTS = ("dense MACs", "depthwise MACs", "large depthwise MACs", "activation elements", "gate MACs", "weights", "blocks")
# Kernels from this size on have a cost of their own: runtimes have fast paths for 3x3 and 5x5 that end there, LiteRT's at half the speed.
LARGE_KERNEL = 7


def boundary_elements(block: BlockSpec) -> int:
    """Return the values a block reads and writes: the maps at its two ends, which stay inside a network but are converted around a lone block."""
    return block.in_channels * block.input_side**2 + block.out_channels * block.output_side**2


def weight_elements(block: BlockSpec) -> int:
    """Return the number of convolution weights."""
    return sum(math.prod(convolution.weight_shape) for convolution in block.convolutions())


def physical_costs(block: BlockSpec) -> tuple[float, ...]:
    """Return a block's `PHYSICAL_COSTS`; activation elements are those each convolution reads and writes, and a residual sum."""
    dense = depthwise = large = gates = 0
    moved = block.out_channels * block.input_side**2 if block.residual else 0
    for convolution in block.convolutions():
        macs = convolution_macs(convolution)
        if convolution.groups > 1:
            depthwise += macs
            large += macs if convolution.kernel_size >= LARGE_KERNEL else 0
        elif convolution.input_side == 1:
            gates += macs
        else:
            dense += macs
        moved += convolution.in_channels * convolution.input_side**2 + convolution.out_channels * convolution.output_side**2
    return dense, depthwise, large, moved, gates, weight_elements(block), 1.0
