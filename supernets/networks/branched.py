"""Networks with branches: their forward pass, norm statistics, supernet, and the plain child that one of its architectures becomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.blocks import BlockSpec, Convolution
from supernets.networks.branches import (
    Kept,
    branch_weight,
    branched_block_tensors,
    branched_slices,
    inner_name,
    is_depthwise,
    kept_branches,
    norm_name,
)
from supernets.networks.calibration import NormStatistics
from supernets.networks.functional import ACTIVATIONS, Norm, Tensors, TorchOperations, batch_norm, running_norm
from supernets.networks.merging import merged
from supernets.networks.supernet import Supernet, supernet_tensors
from supernets.networks.tree import hold
from supernets.space import Architecture, SearchSpace
from supernets.spaces.repnas import BRANCHES, POINT_AVERAGE, POINT_KXK, SKIP
from supernets.walk import run_blocks


class BranchedOperations(TorchOperations):
    """`supernets.walk.Operations` in which the convolutions of `kept` are the sum of their branches.

    `gates` (prefix of the branch's tensors → a factor without dimensions) scales branches; the others count once.
    """

    def __init__(self, tensors: Tensors, norm: Norm, kept: Kept, gates: Mapping[str, Tensor] | None = None, dropout: float = 0.0) -> None:
        super().__init__(tensors, norm, dropout)
        self._kept = kept
        self._gates = gates or {}

    def convolution(self, x: Tensor, convolution: Convolution) -> Tensor:
        """Sum the branches kept, then activate; a convolution without branches as ever."""
        if convolution.name not in self._kept:
            return super().convolution(x, convolution)
        total: Tensor | None = None
        for branch in self._kept[convolution.name]:
            y = self._branch(x, convolution, branch)
            gate = self._gates.get(f"{convolution.name}.{branch}")
            y = y if gate is None else gate * y
            total = y if total is None else total + y
        if total is None:
            raise ValueError(f"convolution {convolution.name!r} is given no branch; expected one or more of {', '.join(BRANCHES)}")
        return ACTIVATIONS[convolution.activation](total)

    def _branch(self, x: Tensor, convolution: Convolution, branch: str) -> Tensor:
        if branch == SKIP:
            y = x.clone()  # a norm may write over what it is given
        elif branch in (POINT_KXK, POINT_AVERAGE):
            y = self._two_parts(x, convolution, branch)
        else:
            weight, stride = branch_weight(convolution, branch, self._tensors), convolution.stride
            if weight.shape[-2:] == (1, 1) and stride > 1:  # oneDNN's gradient of such a weight wrote outside its memory on wide maps (torch 2.13)
                x, stride = x[..., ::stride, ::stride], 1
            y = F.conv2d(x, weight, None, stride, (weight.shape[-2] // 2, weight.shape[-1] // 2), 1, convolution.groups)
        return self._norm(y, norm_name(convolution, branch), self._tensors)

    def _two_parts(self, x: Tensor, convolution: Convolution, branch: str) -> Tensor:
        """Pad first: the second part then meets, beyond the border, the inner norm's answer to zero, as the merged convolution does."""
        size, stride, groups = convolution.kernel_size, convolution.stride, convolution.groups
        y = F.pad(x, [convolution.padding] * 4)
        if branch == POINT_KXK or not is_depthwise(convolution):
            y = F.conv2d(y, branch_weight(convolution, branch, self._tensors), None, 1, 0, 1, groups)
            y = self._norm(y, inner_name(convolution, branch), self._tensors)
        if branch == POINT_AVERAGE:
            return F.avg_pool2d(y, size, stride)
        return F.conv2d(y, self._tensors[f"{convolution.name}.{branch}.weight"], None, stride, 0, 1, groups)


def branched_forward(
    blocks: Iterable[BlockSpec], x_NCHW: Tensor, tensors: Tensors, kept: Kept, norm: Norm = running_norm,
    gates: Mapping[str, Tensor] | None = None, dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """Return the output on a batch of the network of these blocks with these branches."""
    return run_blocks(blocks, x_NCHW, BranchedOperations(tensors, norm, kept, gates, dropout))


@torch.no_grad()
def calibrate_branches(blocks: Sequence[BlockSpec], tensors: Tensors, kept: Kept, batches_NCHW: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return `running_mean` and `running_var` of every norm, those of branches included, averaged over batches of images.

    Raises:
        ValueError: there is no batch.
    """
    statistics, images = NormStatistics(), 0
    for batch_NCHW in batches_NCHW:
        branched_forward(blocks, batch_NCHW, tensors, kept, statistics.norm)
        images += len(batch_NCHW)
    if not images:
        raise ValueError("norm statistics need at least one batch of images; none was given")
    return statistics.averages(images)


class BranchedSupernet(Supernet):
    """The shared weights of a space whose blocks have branches: of every branch there can be.

    With `own_weights` each branch has a kernel of its own, else smaller ones are the centre of the block's K x K kernel.
    """

    def __init__(self, space: SearchSpace, own_weights: bool = False, kernel_transform: bool = False, seed: int = 0) -> None:
        nn.Module.__init__(self)
        self.space = space
        self.kernel_transform = kernel_transform
        self.own_weights = own_weights
        hold(self, branched_supernet_tensors(space, own_weights, kernel_transform, seed))

    def child(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the learned tensors of one architecture with its branches: differentiable slices."""
        blocks = self.space.blocks(architecture)
        return branched_slices(blocks, self.tensors(), kept_branches(blocks, architecture))

    def forward(self, x_NCHW: Tensor, architecture: Architecture, norm: Norm = batch_norm, dropout: float = 0.0) -> Tensor:
        """Return the logits (N, classes) of one architecture, branched, on a batch."""
        blocks = self.space.blocks(architecture)
        kept = kept_branches(blocks, architecture)
        return branched_forward(blocks, x_NCHW, branched_slices(blocks, self.tensors(), kept), kept, norm, dropout=dropout)


def branched_supernet_tensors(space: SearchSpace, own_weights: bool = False, kernel_transform: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Return fresh tensors of a space's largest network with all its branches; without branches those of `supernet_tensors`.

    A 1x1 convolution of its own before a K x K one begins as the identity where it can (as in DBB).
    """
    generator = torch.Generator().manual_seed(seed)
    tensors, largest = supernet_tensors(space, kernel_transform, seed), space.largest()
    blocks = space.blocks(largest)
    kept = kept_branches(blocks, largest)
    for name in kept:
        tensors.pop(f"{name}.bias", None)  # the shifts of the branches' norms stand in for it
    for block in blocks:
        shapes = branched_block_tensors(block, kept, own_weights)
        tensors.update({name: _fresh(name, shape, generator) for name, shape in shapes.items() if name not in tensors})
    return tensors


def _fresh(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith(".bn.weight") else torch.zeros(shape)
    if name.endswith(f"{POINT_KXK}.inner.weight"):
        return (torch.arange(shape[0])[:, None] % shape[1] == torch.arange(shape[1])).float()[:, :, None, None]
    return torch.empty(shape).normal_(0, math.sqrt(2 / (shape[0] * shape[2] * shape[3])), generator=generator)


def merged_child(space: SearchSpace, tensors: Tensors, architecture: Architecture, calibration_batches_NCHW: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the plain network that an architecture becomes: sliced, its norms calibrated, its branches merged.

    They are for the space's own blocks of the architecture, statistics of norms that are left included.
    """
    blocks = space.blocks(architecture)
    kept = kept_branches(blocks, architecture)
    child = {name: tensor.detach() for name, tensor in branched_slices(blocks, tensors, kept).items()}
    return merged(blocks, {**child, **calibrate_branches(blocks, child, kept, calibration_batches_NCHW)}, kept)
