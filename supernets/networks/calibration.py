"""Norm statistics of a child, measured on images: without them a sliced network's accuracy is near chance.

Rule of Once-for-All's `set_running_statistics`: each batch is normalised with its own statistics, and the batches'
means and biased variances are averaged, weighted by batch size. No momentum, no gradient, no change of a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.networks.functional import BN_EPS, Tensors, forward


class NormStatistics:
    """Collects every norm's statistics while batches run through a network."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def norm(self, x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
        """Normalise a batch in place with its own statistics, and note them; a `functional.Norm` for inference only."""
        mean, var = torch.batch_norm_update_stats(x_NCHW, None, None, 0.0)
        for key, value in ((f"{name}.bn.running_mean", mean), (f"{name}.bn.running_var", var)):
            self._sums[key] = self._sums.get(key, torch.zeros((), dtype=torch.float64, device=value.device)) + value.double() * len(x_NCHW)
        scale = tensors[f"{name}.bn.weight"] * torch.rsqrt(var + BN_EPS)
        shift = tensors[f"{name}.bn.bias"] - mean * scale
        return torch.addcmul(shift[:, None, None], x_NCHW, scale[:, None, None], out=x_NCHW)

    def averages(self, images: int) -> dict[str, Tensor]:
        """Return `<name>.bn.running_mean` and `.running_var` over this many images."""
        return {key: (value / images).float() for key, value in self._sums.items()}


@torch.no_grad()
def calibrate(blocks: Sequence[BlockSpec], tensors: Tensors, batches_NCHW: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return `<name>.bn.running_mean` and `.running_var` of every norm, averaged over the batches of images.

    Raises:
        ValueError: there is no batch.
    """
    statistics = NormStatistics()
    images = 0
    for batch_NCHW in batches_NCHW:
        forward(blocks, batch_NCHW, tensors, statistics.norm)
        images += len(batch_NCHW)
    if not images:
        raise ValueError("norm statistics need at least one batch of images; none was given")
    return statistics.averages(images)
