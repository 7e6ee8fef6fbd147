"""The supernet: the learned tensors that a space's networks share, from which every child is sliced.

It keeps no norm statistics: a child's are calibrated on images, always (`networks.calibration`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.networks.functional import Norm, batch_norm, forward
from supernets.networks.initial import fresh_convolutions, fresh_tensors
from supernets.networks.slicing import child_tensors, matrix_name
from supernets.networks.tree import held, hold
from supernets.places import shared_shapes
from supernets.space import Architecture, SearchSpace


class Supernet(nn.Module):
    """The shared weights of a space, or of a restricted one: then only what its own networks need.

    `tensors` are the learned tensors of the space's largest network, those that only others have and, with
    `kernel_transform`, one matrix a step of each elastic kernel, the identity at first (then a child's kernel is the plain
    centre of the largest one).
    """

    def __init__(self, space: SearchSpace, kernel_transform: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        self.kernel_transform = kernel_transform
        hold(self, supernet_tensors(space, kernel_transform, seed))

    def tensors(self) -> dict[str, Tensor]:
        """Return the shared tensors by name."""
        return held(self)

    def child(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the learned tensors of one architecture: differentiable slices, kernel matrices baked in."""
        return child_tensors(self.space.blocks(architecture), self.tensors())

    def forward(self, x_NCHW: Tensor, architecture: Architecture, norm: Norm = batch_norm, dropout: float = 0.0) -> Tensor:
        """Return the logits (N, classes) of one architecture on a batch, with the batch's own norm statistics by default."""
        blocks = self.space.blocks(architecture)
        return forward(blocks, x_NCHW, child_tensors(blocks, self.tensors()), norm, dropout)


def supernet_tensors(space: SearchSpace, kernel_transform: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """Return fresh shared tensors of a space, kernel-transform matrices included."""
    tensors = fresh_tensors(space.blocks(space.largest()), seed)
    shapes = shared_shapes(space)  # the largest network lacks some tensors, and others are longer elsewhere: what one operator gates, say
    tensors.update(fresh_convolutions({name: shape for name, shape in shapes.items() if name not in tensors or tensors[name].shape != shape}, seed))
    if kernel_transform:
        for choice in space.choices:
            place = choice.name.removesuffix(".kernel_size")
            if choice.kind == "kernel_size" and f"{place}.depthwise.weight" in tensors:
                for size in range(max(choice.allowed) - 2, min(choice.allowed) - 1, -2):  # type: ignore[operator, arg-type]
                    tensors[matrix_name(f"{place}.depthwise", size + 2, size)] = torch.eye(size * size)
    return tensors
