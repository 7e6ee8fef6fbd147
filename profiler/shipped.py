"""Supernet weights that come with the package, by space, and the images they were trained on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.files import refuse_folder

if TYPE_CHECKING:
    from profiler.pipeline import RunSettings

SHIPPED = {"ofa-mobilenetv3-tiny": ("ofa_mobilenetv3_tiny_fashion_mnist.safetensors", "fashion-mnist-subset")}


def shipped_weights(space_name: str) -> tuple[Path, str] | None:
    """Return the weights file and the name of its images; None where none come with the package."""
    if space_name not in SHIPPED:
        return None
    file, images = SHIPPED[space_name]
    with resources.as_file(resources.files("supernets") / "weights" / file) as path:
        return path, images


def weights_or_shipped(weights: Path | None, space_name: str = "ofa-mobilenetv3-tiny") -> Path:
    """Return the weights file given, or the one that comes with the package for a space.

    Raises:
        FileNotFoundError: there is no such file, or none comes for the space.
    """
    if weights is None:
        shipped = shipped_weights(space_name)
        if shipped is None:
            raise FileNotFoundError(f"no weights come with the package for space {space_name!r}; give some with --weights FILE")
        weights = shipped[0]
    refuse_folder(weights, "a .safetensors file of `profiler train`", ".safetensors")
    if not weights.is_file():
        raise FileNotFoundError(f"there is no weights file {weights}; expected a .safetensors file of `profiler train`")
    return weights


def weights_and_images(settings: RunSettings, space_name: str) -> tuple[Path | None, str]:
    """Return the weights that a run takes, None where it trains its own, and the images that it trains or judges networks on.

    Raises:
        ValueError: none were given, and none come with the package.
    """
    system, weights, own_images = settings.what, settings.weights, ""
    trained_here = settings.train or not system.trains or (system.name != "ofa" and weights is None)
    if weights is None and not settings.train:
        weights, own_images = shipped_weights(space_name) or (None, "")
    if weights is None and not trained_here:
        raise ValueError(f"no weights come with space {space_name!r}; give some (--weights FILE --images DATA) or train them (--train --images DATA)")
    images = settings.images or own_images or settings.size.images
    if not images:
        needed = f"system {system.name!r} trains networks of space {space_name!r}" if trained_here else f"weights {weights} are judged on images"
        raise ValueError(f"{needed}, and no images come with the space; give a folder of images or an .npz file with --images")
    return None if trained_here else weights, images
