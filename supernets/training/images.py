"""Images as arrays of pixels → network inputs: the one way used by training, calibration, evaluation and export checks.

Dimensions: N images, H = W side, C channels. Pixels are uint8; inputs are float32 in channels-last memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.networks.functional import channels_last
from supernets.training.image_rows import ImageRows

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
# inputs = (pixel / 255 - PIXEL_MEAN) / PIXEL_STD for every data set: the norm behind the stem undoes any other scale
PIXEL_MEAN = 0.5
PIXEL_STD = 0.25


def network_input(images_NHWC: Pixels | Tensor, side: int) -> Tensor:
    """Return a batch of inputs (N, C, side, side): scaled pixels, resized bilinearly with antialiasing; of a tensor, on its device."""
    images = images_NHWC if isinstance(images_NHWC, Tensor) else torch.from_numpy(np.ascontiguousarray(images_NHWC))
    pixels_NCHW = images.permute(0, 3, 1, 2)
    x_NCHW = (pixels_NCHW.float() - 255 * PIXEL_MEAN) / (255 * PIXEL_STD)
    if x_NCHW.shape[2:] != (side, side):
        x_NCHW = F.interpolate(x_NCHW, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    return channels_last(x_NCHW)


def input_batches(images_NHWC: Pixels | ImageRows, side: int, batch_size: int, device: str | torch.device = "cpu") -> Iterator[Tensor]:
    """Yield all images, in order, as batches of inputs, made on the device of their pixels; the last one may be smaller."""
    for start in range(0, len(images_NHWC), batch_size):
        pixels = torch.from_numpy(np.ascontiguousarray(images_NHWC[start : start + batch_size]))
        yield network_input(pixels.to(device), side)


def augmented(
    images_NHWC: Pixels, rng: np.random.Generator, crop_padding: int, flip: bool, batch_size: int | None = None, rows: slice | None = None
) -> Pixels:
    """Return the images moved by up to `crop_padding` pixels each way, black coming in, and half of them mirrored.

    Where the images are only the `rows` of a batch of `batch_size`, they are moved as they would be with all of it.
    """
    count, side, own = batch_size or len(images_NHWC), images_NHWC.shape[1], rows or slice(None)
    top, left = rng.integers(0, 2 * crop_padding + 1, size=(2, count, 1))[:, own]
    mirrored = rng.random((count, 1))[own] < (0.5 if flip else 0.0)
    rows_of, columns = top + np.arange(side), left + np.arange(side)
    columns = np.where(mirrored, columns[:, ::-1], columns)
    padded = np.pad(images_NHWC, ((0, 0), (crop_padding, crop_padding), (crop_padding, crop_padding), (0, 0)))
    moved: Pixels = padded[np.arange(len(images_NHWC))[:, None, None], rows_of[:, :, None], columns[:, None, :]]
    return moved
