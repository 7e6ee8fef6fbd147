"""Fresh tensors for a list of blocks: He initialisation by fan-out, as Once-for-All trains from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.counts import block_tensors


def fresh_tensors(blocks: Iterable[BlockSpec], seed: int = 0) -> dict[str, Tensor]:
    """Return learned tensors for these blocks: the same for the same seed, whatever was drawn before."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for block in blocks:
        for name, shape in block_tensors(block).items():
            tensors[name] = _fresh(name, shape, block.operator, generator)
    return tensors


def fresh_convolutions(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Return learned tensors of these names and shapes, none of them a linear block's: the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _fresh(name, shape, "conv", generator) for name, shape in shapes.items()}


def fresh_statistics(blocks: Iterable[BlockSpec]) -> dict[str, Tensor]:
    """Return running means of zero and variances of one for every norm of these blocks."""
    statistics: dict[str, Tensor] = {}
    for block in blocks:
        for convolution in block.convolutions():
            if convolution.norm:
                statistics[f"{convolution.name}.bn.running_mean"] = torch.zeros(convolution.out_channels)
                statistics[f"{convolution.name}.bn.running_var"] = torch.ones(convolution.out_channels)
    return statistics


def _fresh(name: str, shape: tuple[int, ...], operator: str, generator: torch.Generator) -> Tensor:
    if name.endswith(".bn.weight"):
        return torch.ones(shape)
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if operator == "linear":
        return torch.empty(shape).uniform_(-1 / math.sqrt(shape[1]), 1 / math.sqrt(shape[1]), generator=generator)
    fan_out = shape[0] * shape[2] * shape[3]
    return torch.empty(shape).normal_(0, math.sqrt(2 / fan_out), generator=generator)
