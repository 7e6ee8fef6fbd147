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


@torch.no_grad()
def calibrate(blocks: Sequence[BlockSpec], tensors: Tensors, batches_NCHW: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return `<name>.bn.running_mean` and `.running_var` of every norm, averaged over the batches of images.

    Raises:
        ValueError: there is no batch.
    """
    sums: dict[str, Tensor] = {}
    images = 0

    def collecting_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
        y, mean, inverse_std = torch.native_batch_norm(
            x_NCHW, tensors[f"{name}.bn.weight"], tensors[f"{name}.bn.bias"], None, None, True, 0.0, BN_EPS
        )
        for key, value in ((f"{name}.bn.running_mean", mean), (f"{name}.bn.running_var", inverse_std.double().pow(-2) - BN_EPS)):
            sums[key] = sums.get(key, torch.zeros((), dtype=torch.float64)) + value.double() * len(x_NCHW)
        return y

    for batch_NCHW in batches_NCHW:
        forward(blocks, batch_NCHW, tensors, collecting_norm)
        images += len(batch_NCHW)
    if not images:
        raise ValueError("norm statistics need at least one batch of images; none was given")
    return {key: (value / images).to(next(iter(tensors.values())).dtype) for key, value in sums.items()}
