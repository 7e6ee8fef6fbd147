"""The accuracy of one child, the plain way: calibrate its norms, merge its branches, fold the norms, count hits."""

from __future__ import annotations

import torch

from supernets.networks.branched import merged_child
from supernets.networks.functional import Tensors, fold, forward, no_norm
from supernets.space import Architecture, SearchSpace
from supernets.training.data import Labels
from supernets.training.image_rows import ImageRows
from supernets.training.images import Pixels, input_batches

BATCH_SIZE = 256


@torch.no_grad()
def accuracy(
    space: SearchSpace, tensors: Tensors, architecture: Architecture, images_NHWC: Pixels | ImageRows, labels: Labels,
    calibration_NHWC: Pixels | ImageRows,
) -> float:  # fmt: skip
    """Return the share of images a child of the supernet of these tensors classifies rightly, its norms calibrated first."""
    blocks = space.blocks(architecture)
    side, like = blocks[0].input_side, next(iter(tensors.values()))  # their device and type are the computation's
    calibration = (batch_NCHW.to(like) for batch_NCHW in input_batches(calibration_NHWC, side, BATCH_SIZE))
    folded = fold(merged_child(space, tensors, architecture, calibration), blocks)
    truth = torch.from_numpy(labels)
    hits, start = 0, 0
    for batch_NCHW in input_batches(images_NHWC, side, BATCH_SIZE):
        predicted = forward(blocks, batch_NCHW.to(like), folded, no_norm).argmax(1).cpu()
        hits += int((predicted == truth[start : start + len(predicted)]).sum())
        start += len(predicted)
    return hits / len(labels)
