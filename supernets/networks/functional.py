"""The forward pass of any list of BlockSpecs over a mapping of tensors: supernet, child and static network alike.

Dimensions: N images, C channels, H = W side. How a batch norm normalises is a parameter, since only that differs
between training (the batch's own statistics), calibration (the same, collected) and inference (given statistics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.blocks import BlockSpec, Convolution
from supernets.walk import run_blocks

Tensors: TypeAlias = Mapping[str, Tensor]
Norm: TypeAlias = Callable[[Tensor, str, Tensors], Tensor]  # (x_NCHW, convolution's name, tensors) → normalised x_NCHW
BN_EPS = 1e-5

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "h_swish": F.hardswish,
    "h_sigmoid": F.hardsigmoid,
    "swish": F.silu,
    "sigmoid": torch.sigmoid,
}


def batch_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
    """Normalise with the batch's own mean and biased variance (training; nothing is tracked)."""
    return F.batch_norm(x_NCHW, None, None, tensors[f"{name}.bn.weight"], tensors[f"{name}.bn.bias"], training=True, eps=BN_EPS)


def running_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
    """Normalise with the given `running_mean` and `running_var` (inference)."""
    mean, var = tensors[f"{name}.bn.running_mean"], tensors[f"{name}.bn.running_var"]
    return F.batch_norm(x_NCHW, mean, var, tensors[f"{name}.bn.weight"], tensors[f"{name}.bn.bias"], training=False, eps=BN_EPS)


def no_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
    """Leave the map as it is: the tensors are folded, each convolution has its norm in weight and bias."""
    return x_NCHW


class TorchOperations:
    """`supernets.walk.Operations` on torch tensors."""

    def __init__(self, tensors: Tensors, norm: Norm, dropout: float = 0.0) -> None:
        self._tensors = tensors
        self._norm = norm
        self._dropout = dropout

    def convolution(self, x: Tensor, convolution: Convolution) -> Tensor:
        """Convolve, add the bias if there is one, normalise if the convolution has a norm, activate."""
        weight, bias = self._tensors[f"{convolution.name}.weight"], self._tensors.get(f"{convolution.name}.bias")
        x = F.conv2d(x, weight, bias, convolution.stride, convolution.padding, 1, convolution.groups)
        if convolution.norm:
            x = self._norm(x, convolution.name, self._tensors)
        return ACTIVATIONS[convolution.activation](x)

    def linear(self, x: Tensor, convolution: Convolution) -> Tensor:
        """Drop features if asked to, then multiply by the weight matrix and add the bias: (N, out)."""
        x = F.dropout(x.flatten(1), self._dropout, training=self._dropout > 0)
        return F.linear(x, self._tensors[f"{convolution.name}.weight"].flatten(1), self._tensors[f"{convolution.name}.bias"])

    def mean(self, x: Tensor) -> Tensor:
        """Average over the map: (N, C, 1, 1)."""
        return x.mean((2, 3), keepdim=True)

    def multiply(self, x: Tensor, gate: Tensor) -> Tensor:
        """Scale the channels."""
        return x * gate

    def add(self, x: Tensor, y: Tensor, activation: str) -> Tensor:
        """Sum two maps, activate."""
        return ACTIVATIONS[activation](x + y)

    def average_pool(self, x: Tensor, size: int) -> Tensor:
        """Average windows side by side, those at the far border over their part of the map."""
        return F.avg_pool2d(x, size, size, ceil_mode=True)

    def max_pool(self, x: Tensor, kernel_size: int, stride: int) -> Tensor:
        """Take the largest of each window."""
        return F.max_pool2d(x, kernel_size, stride, kernel_size // 2)


def channels_last(x_NCHW: Tensor) -> Tensor:
    """Return the tensor with channels-last strides.

    `Tensor.contiguous` leaves a single-channel image as it is, since both layouts hold it in the same order; by its strides
    the whole network would then run channels-first, at half the speed.
    """
    return torch.empty(x_NCHW.shape, dtype=x_NCHW.dtype, device=x_NCHW.device, memory_format=torch.channels_last).copy_(x_NCHW)


def forward(blocks: Iterable[BlockSpec], x_NCHW: Tensor, tensors: Tensors, norm: Norm = running_norm, dropout: float = 0.0) -> Tensor:
    """Return the network's output on a batch: logits (N, classes) for a whole network, a map for part of one."""
    return run_blocks(blocks, x_NCHW, TorchOperations(tensors, norm, dropout))


def fold(tensors: Tensors, blocks: Iterable[BlockSpec]) -> dict[str, Tensor]:
    """Return the tensors with every norm merged into its convolution's weight and bias, for `forward(..., norm=no_norm)`."""
    folded: dict[str, Tensor] = {}
    for block in blocks:
        for convolution in block.convolutions():
            name = convolution.name
            weight = tensors[f"{name}.weight"]
            if convolution.norm:
                scale = tensors[f"{name}.bn.weight"] * torch.rsqrt(tensors[f"{name}.bn.running_var"] + BN_EPS)
                folded[f"{name}.weight"] = weight * scale[:, None, None, None]
                folded[f"{name}.bias"] = tensors[f"{name}.bn.bias"] - tensors[f"{name}.bn.running_mean"] * scale
            else:
                folded[f"{name}.weight"] = weight
                if convolution.bias:
                    folded[f"{name}.bias"] = tensors[f"{name}.bias"]
    return folded
