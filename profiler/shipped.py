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


def weights_or_shipped(weights: Path | None) -> Path:
    """Return the weights file given, or the only one that comes with the package.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = weights if weights is not None else Path(str((shipped_weights("ofa-mobilenetv3-tiny") or (Path("weights"), ""))[0]))
    if not found.is_file():
        raise FileNotFoundError(f"there is no weights file {found}; expected a .safetensors file of `profiler train`")
    return found
