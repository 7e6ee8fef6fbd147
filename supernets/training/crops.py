"""Random resized crops and colour jitter: batches of images moved, stretched, mirrored and recoloured, as ImageNet's trainings do.

Crops are of Inception's kind: a random share of the area and a random ratio of width to height, resized to the image's side
bilinearly. Colours are those of Once-for-All: brightness and saturation times random factors. An image's own draws do not depend on
which other images are computed with it, so parts of a batch are the rows of the whole, bit for bit on one kind of device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# a recipe's fields, as in the code that Once-for-All released for ImageNet
AUGMENTATION: dict[str, Any] = {"crop_scale": 0.08, "brightness": 32 / 255, "saturation": 0.5}
RATIOS = (3 / 4, 4 / 3)  # of width to height: what random resized crops have by default
TRIES = 10  # to find a crop inside the image; else it is the whole one
GREY = (0.299, 0.587, 0.114)  # how bright red, green and blue are


@dataclass(frozen=True)
class Crops:
    """What was drawn for each image of a batch: the crop in pixels, whether it is mirrored, and factors of its colours."""

    left: np.ndarray[Any, Any]
    top: np.ndarray[Any, Any]
    width: np.ndarray[Any, Any]
    height: np.ndarray[Any, Any]
    mirrored: np.ndarray[Any, Any]
    brightness: np.ndarray[Any, Any]
    saturation: np.ndarray[Any, Any]


def drawn_crops(
    count: int, side: int, rng: np.random.Generator, smallest_share: float, flip: bool, brightness: float = 0.0, saturation: float = 0.0
) -> Crops:  # fmt: skip
    """Return crops of `smallest_share` of the area at least, for so many images of this side.

    Factors of brightness and saturation are drawn from 1 minus to 1 plus what is given.
    """
    shares = rng.uniform(smallest_share, 1, (TRIES, count))
    ratios = np.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1]), (TRIES, count)))
    widths, heights = (np.rint(side * np.sqrt(shares * stretched)) for stretched in (ratios, 1 / ratios))
    inside = (widths >= 1) & (widths <= side) & (heights >= 1) & (heights <= side)
    first, any_inside = inside.argmax(0), inside.any(0)
    width, height = (np.where(any_inside, sizes[first, np.arange(count)], side) for sizes in (widths, heights))
    left, top = (np.floor(rng.random(count) * (side - size + 1)) for size in (width, height))
    mirrored = rng.random(count) < (0.5 if flip else 0.0)
    factors = (rng.uniform(max(0.0, 1 - by), 1 + by, count) for by in (brightness, saturation))
    return Crops(left, top, width, height, mirrored, *factors)


def cropped(images_NHWC: Tensor, crops: Crops, rows: slice | None = None) -> Tensor:
    """Return the images (N, H, W, C) uint8 cropped, mirrored and recoloured, where they are; N of them are the crops' `rows`."""
    side, own = images_NHWC.shape[1], rows or slice(None)

    def drawn(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values[own].astype(np.float32)).to(images_NHWC.device)

    def places(start: Tensor, length: Tensor, shares: Tensor) -> Tensor:
        """Return where shares of a crop are, from -1 to 1 over the image: nothing outside the crop is looked at."""
        return (start + torch.minimum((length * shares).clamp(min=0.5), length - 0.5)) * (2 / side) - 1

    centres = (torch.arange(side, device=images_NHWC.device) + 0.5) / side  # of output pixels
    flipped = torch.where(drawn(crops.mirrored)[:, None] > 0, 1 - centres, centres)
    x_NW = places(drawn(crops.left)[:, None], drawn(crops.width)[:, None], flipped)
    y_NH = places(drawn(crops.top)[:, None], drawn(crops.height)[:, None], centres)
    grid = torch.stack((x_NW[:, None, :].expand(-1, side, -1), y_NH[:, :, None].expand(-1, -1, side)), -1)
    pixels_NCHW = F.grid_sample(images_NHWC.permute(0, 3, 1, 2).float(), grid, "bilinear", "border", align_corners=False)
    pixels_NCHW = (pixels_NCHW * drawn(crops.brightness)[:, None, None, None]).clamp(0, 255)
    if pixels_NCHW.shape[1] == len(GREY):
        red, green, blue = (weight * pixels_NCHW[:, channel] for channel, weight in enumerate(GREY))
        grey = (red + green + blue)[:, None]
        pixels_NCHW = (grey + drawn(crops.saturation)[:, None, None, None] * (pixels_NCHW - grey)).clamp(0, 255)
    return pixels_NCHW.round().to(torch.uint8).permute(0, 2, 3, 1)
