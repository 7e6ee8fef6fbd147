"""From a supernet to one deployable subnet: slice, calibrate the norms, merge the branches, fold, hand over as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.networks.branched import merged_child
from supernets.networks.functional import forward, running_norm
from supernets.networks.supernet import Supernet
from supernets.space import Architecture, ArchitectureError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subnet:
    """One network cut out of a supernet: blocks, learned tensors (kernel matrices baked in) and calibrated statistics."""

    blocks: tuple[BlockSpec, ...]
    tensors: dict[str, Tensor]

    @torch.inference_mode()
    def logits(self, images_NCHW: Tensor) -> Array:
        """Return the unfolded network's outputs, (N, classes): the reference an exported file is checked against."""
        return forward(self.blocks, images_NCHW, self.tensors, running_norm).numpy()

    def arrays(self) -> dict[str, Array]:
        """Return every tensor as a numpy array, unfolded, by name (`weights.fold` merges the norms)."""
        return {name: tensor.detach().numpy() for name, tensor in self.tensors.items()}


def cut_subnet(supernet: Supernet, architecture: Architecture, calibration_batches_NCHW: Iterable[Tensor]) -> Subnet:
    """Return the architecture's network, its branches merged, with norm statistics measured on the given batches (at its own resolution).

    Raises:
        ArchitectureError: the supernet's space, which may be restricted to the one network that its weights are of, has no such architecture.
        ValueError: there is no batch.
    """
    try:
        own = supernet.space.architecture(architecture)
    except ArchitectureError as error:
        raise ArchitectureError(f"these weights do not hold the subnet asked for: {error}; use weights of a supernet that has it") from None
    tensors = merged_child(supernet.space, supernet.tensors(), own, calibration_batches_NCHW)
    return Subnet(tuple(supernet.space.blocks(own)), tensors)
