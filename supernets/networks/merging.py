"""Branches → one convolution: exact, from norms in inference mode, computed in float64 whatever the tensors' type.

Weights are (O, C / groups, k_h, k_w). Each branch becomes a weight K x K and a bias, and those add up (Ding et al., 2021,
"Diverse Branch Block", transforms I to VI). A 1x1 convolution before a K x K one merges exactly because the map is padded
before it, not after its norm: what it makes of the border's zeros then reaches the second convolution, in both forms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.blocks import BlockSpec, Convolution
from supernets.networks.branches import Kept, branch_weight, branched_block_tensors, inner_name, is_depthwise, norm_channels, norm_name
from supernets.networks.functional import BN_EPS, Tensors, fold
from supernets.spaces.repnas import POINT_AVERAGE, POINT_KXK, SKIP

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
Merged: TypeAlias = tuple[Tensor, Tensor]  # weight (O, C / groups, K, K), bias (O,)
Arrays: TypeAlias = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def merged(blocks: Iterable[BlockSpec], tensors: Tensors, kept: Kept) -> dict[str, Tensor]:
    """Return tensors of the plain network of these blocks that computes what the branched one does in inference.

    In them a convolution that had branches has the merged weight, and the bias: its own, or the shift of a norm that
    changes nothing else. All other tensors the blocks need (statistics included) are those given.

    Raises:
        KeyError: a tensor is missing, norm statistics included.
    """
    plain: dict[str, Tensor] = {}
    for block in blocks:
        for convolution in block.convolutions():
            name = convolution.name
            if name in kept:
                plain.update(_plain_tensors(convolution, merged_convolution(convolution, tensors, kept[name])))
            else:
                parts = ["weight"] + ["bias"] * convolution.bias + [f"bn.{part}" for part in NORM_PARTS] * convolution.norm
                plain.update({f"{name}.{part}": tensors[f"{name}.{part}"].detach() for part in parts})
    return plain


def _plain_tensors(convolution: Convolution, merge: Merged) -> dict[str, Tensor]:
    weight, bias = merge
    if not convolution.norm:
        return {f"{convolution.name}.weight": weight, f"{convolution.name}.bias": bias}
    zeros, ones = torch.zeros_like(bias), torch.ones_like(bias)
    norm = dict(zip(NORM_PARTS, (ones, bias, zeros, ones - BN_EPS), strict=True))
    return {f"{convolution.name}.weight": weight, **{f"{convolution.name}.bn.{part}": tensor for part, tensor in norm.items()}}


@torch.no_grad()
def merged_convolution(convolution: Convolution, tensors: Tensors, branches: Sequence[str]) -> Merged:
    """Return weight and bias of the one convolution that equals the sum of these branches, in the type of the tensors and on their device."""
    master = tensors[f"{convolution.name}.weight"]
    exact = {name: tensor.double() for name, tensor in tensors.items() if name.startswith(f"{convolution.name}.")}
    weight = torch.zeros(convolution.weight_shape, dtype=torch.float64, device=master.device)
    bias = torch.zeros(convolution.out_channels, dtype=torch.float64, device=master.device)
    for branch in branches:
        own_weight, own_bias = _merged_branch(convolution, branch, exact)
        weight += padded(own_weight, convolution.kernel_size)
        bias += own_bias
    return weight.to(master.dtype), bias.to(master.dtype)


def _merged_branch(convolution: Convolution, branch: str, tensors: Tensors) -> Merged:
    inner: Merged | None = None
    device = tensors[f"{convolution.name}.weight"].device
    if branch == POINT_KXK or (branch == POINT_AVERAGE and not is_depthwise(convolution)):
        inner = with_norm(branch_weight(convolution, branch, tensors), inner_name(convolution, branch), tensors)
    if branch == SKIP:
        weight = identity_kernel(convolution, device)
    elif branch == POINT_AVERAGE:
        weight = average_kernel(convolution, device)
    elif branch == POINT_KXK:
        weight = tensors[f"{convolution.name}.{branch}.weight"]
    else:
        weight = branch_weight(convolution, branch, tensors)
    outer = with_norm(weight, norm_name(convolution, branch), tensors)
    return outer if inner is None else composed(inner, outer, convolution.groups)


def with_norm(weight: Tensor, name: str, tensors: Tensors) -> Merged:
    """Return weight and bias of a convolution without bias and the norm `<name>.bn` behind it."""
    scale = tensors[f"{name}.bn.weight"] / torch.sqrt(tensors[f"{name}.bn.running_var"] + BN_EPS)
    return weight * scale[:, None, None, None], tensors[f"{name}.bn.bias"] - tensors[f"{name}.bn.running_mean"] * scale


def composed(first: Merged, second: Merged, groups: int) -> Merged:
    """Return the one convolution that equals a 1x1 one and then another, with the same groups."""
    (point, point_bias), (weight, bias) = first, second
    inner, inner_bias = point[:, :, 0, 0].reshape(groups, -1, point.shape[1]), point_bias.reshape(groups, -1)
    outer = weight.reshape(groups, -1, *weight.shape[1:])
    both = torch.einsum("godhw,gdc->gochw", outer, inner).flatten(0, 1)
    return both, bias + torch.einsum("godhw,gd->go", outer, inner_bias).flatten()


def padded(weight: Tensor, size: int) -> Tensor:
    """Return the weight in the middle of a kernel size x size, zero around it."""
    rows, columns = (size - weight.shape[-2]) // 2, (size - weight.shape[-1]) // 2
    return F.pad(weight, [columns, columns, rows, rows])


def identity_kernel(convolution: Convolution, device: torch.device) -> Tensor:
    """Return the 1x1 weight that leaves a map of as many channels as it is."""
    return _one_to_one(convolution, device)[:, :, None, None]


def average_kernel(convolution: Convolution, device: torch.device) -> Tensor:
    """Return the K x K weight that averages each channel of a map that has as many as the convolution makes, zeros of the border included."""
    size = convolution.kernel_size
    group = convolution.out_channels // convolution.groups
    return _one_to_one(convolution, device, group)[:, :, None, None].expand(-1, -1, size, size) / size**2


def _one_to_one(convolution: Convolution, device: torch.device, group: int | None = None) -> Tensor:
    """Return (O, channels of a group): 1 where an output's own channel is, in each group."""
    channels = torch.arange(convolution.out_channels, device=device)
    width = convolution.in_channels // convolution.groups if group is None else group
    return (channels[:, None] % width == torch.arange(width, device=device)).double()


def merged_pair(blocks: Sequence[BlockSpec], first: Kept, second: Kept, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Return folded weights of one network with random tensors and statistics, merged from either choice of branches.

    Both are for the same blocks, so the graphs written from them differ in numbers alone: timing both shows that latency
    does not depend on the branches.
    """
    generator = torch.Generator().manual_seed(seed)
    pair = []
    for kept in (first, second):
        plain = merged(blocks, random_branched_tensors(blocks, kept, generator), kept)
        pair.append({name: tensor.float().numpy() for name, tensor in fold(plain, blocks).items()})
    return pair[0], pair[1]


def random_branched_tensors(blocks: Iterable[BlockSpec], kept: Kept, generator: torch.Generator, own_weights: bool = False) -> dict[str, Tensor]:
    """Return random tensors, norms away from their defaults, of a network with these branches, statistics included."""
    tensors: dict[str, Tensor] = {}
    for block in blocks:
        shapes = branched_block_tensors(block, kept, own_weights)
        norms: dict[str, int] = {}
        for convolution in block.convolutions():
            if convolution.name in kept:
                norms.update(norm_channels(convolution, kept[convolution.name], own_weights))
            elif convolution.norm:
                norms[convolution.name] = convolution.out_channels
        tensors.update({name: _random(name, shape, generator) for name, shape in shapes.items()})
        for name, channels in norms.items():
            tensors[f"{name}.bn.running_mean"] = torch.empty(channels).uniform_(-0.5, 0.5, generator=generator)
            tensors[f"{name}.bn.running_var"] = torch.empty(channels).uniform_(0.5, 1.5, generator=generator)
    return tensors


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith(".bn.weight"):
        return torch.empty(shape).uniform_(0.5, 1.5, generator=generator)
    if len(shape) == 1:
        return torch.empty(shape).uniform_(-0.5, 0.5, generator=generator)
    return torch.empty(shape).normal_(0, float(np.prod(shape[1:])) ** -0.5, generator=generator)
