"""Supernet weights that come with the package, by space, and the images they were trained on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

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
    if not weights.is_file():
        raise FileNotFoundError(f"there is no weights file {weights}; expected a .safetensors file of `profiler train`")
    return weights
