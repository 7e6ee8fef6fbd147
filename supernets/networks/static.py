"""A static network: an ordinary torch module of a list of blocks, with norm statistics of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supernets.blocks import BlockSpec
from supernets.networks.functional import BN_EPS, Tensors, forward, running_norm
from supernets.networks.initial import fresh_statistics, fresh_tensors
from supernets.networks.tree import held, hold

BN_MOMENTUM = 0.1


class StaticNetwork(nn.Module):
    """The network of these blocks; in training mode its norms use the batch and track it, as `nn.BatchNorm2d` does."""

    def __init__(self, blocks: Sequence[BlockSpec], tensors: Tensors | None = None, seed: int = 0) -> None:
        """Hold copies of `tensors` (learned ones, and statistics where given), or fresh ones."""
        super().__init__()
        self.blocks = tuple(blocks)
        learned = fresh_tensors(self.blocks, seed)
        statistics = fresh_statistics(self.blocks)
        if tensors is not None:
            learned = {name: tensors[name].detach().clone() for name in learned}
            statistics.update({name: tensors[name].detach().clone() for name in statistics if name in tensors})
        hold(self, learned, statistics)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the network's output on a batch."""
        return forward(self.blocks, x_NCHW, held(self), _tracking_norm if self.training else running_norm)


def _tracking_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
    mean, var = tensors[f"{name}.bn.running_mean"], tensors[f"{name}.bn.running_var"]
    weight, bias = tensors[f"{name}.bn.weight"], tensors[f"{name}.bn.bias"]
    return torch.nn.functional.batch_norm(x_NCHW, mean, var, weight, bias, training=True, momentum=BN_MOMENTUM, eps=BN_EPS)
