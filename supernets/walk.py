"""The one walk over a network's blocks: forward pass, ONNX graph and TFLite graph are this walk with other operations.

Torch modules, exporters and checks hand in an `Operations` over their own kind of value (tensor, node name, tensor index).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from supernets.blocks import BlockSpec, Convolution

Value = TypeVar("Value")


class Operations(Protocol[Value]):
    """What a network is made of; maps are batches of square feature maps, vectors are (batch, channels)."""

    def convolution(self, x: Value, convolution: Convolution) -> Value:
        """Convolve with symmetric zero padding, then norm or bias, then activation."""

    def linear(self, x: Value, convolution: Convolution) -> Value:
        """Multiply a 1x1 map by the weight matrix, add the bias; returns a vector."""

    def mean(self, x: Value) -> Value:
        """Average over the map; returns a 1x1 map."""

    def multiply(self, x: Value, gate: Value) -> Value:
        """Scale each channel of the map by its 1x1 gate."""

    def add(self, x: Value, y: Value, activation: str) -> Value:
        """Sum of two equal-shaped maps, then activation; `y` is read by nothing else."""

    def average_pool(self, x: Value, size: int) -> Value:
        """Average of each size x size window, size apart; at the far border over the part of it that is on the map."""

    def max_pool(self, x: Value, kernel_size: int, stride: int) -> Value:
        """Largest of each window of a map padded symmetrically by half the kernel; the map is nowhere negative, so zeros are never larger."""


def run_block(block: BlockSpec, x: Value, operations: Operations[Value]) -> Value:
    """Return the block's result on `x`."""
    if block.operator == "pool":
        return operations.mean(x)
    if block.operator == "max_pool":
        return operations.max_pool(x, block.kernel_size, block.stride)
    shortcut = operations.average_pool(x, block.stride) if block.residual and block.stride > 1 else x
    y = x
    for convolution in block.convolutions():
        part = convolution.name.rpartition(".")[2]
        if block.operator == "linear":
            y = operations.linear(y, convolution)
        elif part == "se_reduce":
            gate = operations.convolution(operations.mean(y), convolution)
        elif part == "se_expand":
            y = operations.multiply(y, operations.convolution(gate, convolution))
        elif part == "shortcut":
            shortcut = operations.convolution(shortcut, convolution)
        else:
            y = operations.convolution(y, convolution)
    return operations.add(shortcut, y, block.sum_activation) if block.residual else y


def run_blocks(blocks: Iterable[BlockSpec], x: Value, operations: Operations[Value]) -> Value:
    """Return the network's result on `x`: its blocks one after another."""
    for block in blocks:
        x = run_block(block, x, operations)
    return x
