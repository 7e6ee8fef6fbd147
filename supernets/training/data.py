"""The image data a supernet is trained and judged on: training, validation (held out of training) and test images.

Named by one text: `fashion-mnist-subset` (comes with the package), `fashion-mnist` (whole, from a folder of idx files)
or the path of a folder of images in ImageNet's layout, of a folder of idx files, or of an npz file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from supernets.spaces import MOST_CLASSES
from supernets.training import fashion_mnist
from supernets.training.data_files import IDX_FILES, Arrays, read_idx_folder, read_image_folder, read_npz, write_npz
from supernets.training.images import Pixels

Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
SUBSET = "fashion_mnist_subset.npz"  # in supernets/data; benchmarks/make_fashion_mnist_subset.py makes it
MOST_VALIDATION_IMAGES = 10_000  # what Once-for-All holds out of ImageNet's training images


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images (n, side, side, channels) uint8 and labels (n,) int64, counted from 0.

    Raises:
        ValueError: shapes or labels that do not fit each other.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: Pixels
    train_labels: Labels
    validation_images: Pixels
    validation_labels: Labels
    test_images: Pixels
    test_labels: Labels

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] != images.shape[2] or images.shape[3] not in (1, 3):
                raise ValueError(f"{part} images of {self.name!r} are {images.dtype} of shape {images.shape}; expected uint8 (n, side, side, 1 or 3)")
            if images.shape[1:] != self.train_images.shape[1:]:
                raise ValueError(f"{part} images of {self.name!r} have shape {images.shape[1:]}; expected {self.train_images.shape[1:]}")
            if labels.shape != (len(images),):
                raise ValueError(f"{part} labels of {self.name!r} have shape {labels.shape}; expected one for each of {len(images)} images")
            if not len(labels):
                raise ValueError(f"{self.name!r} has no {part} images; expected at least one")
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(f"{part} labels of {self.name!r} run from {labels.min()} to {labels.max()}; expected 0 to {self.classes - 1}")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return int(self.train_images.shape[1])

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (colour)."""
        return int(self.train_images.shape[3])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every image and label, and which of the three sets each is in."""
        digest = hashlib.sha256()
        for part in ("train", "validation", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            digest.update(f"{part} {images.shape}".encode())
            digest.update(images.tobytes())
            digest.update(labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def calibration_images(self, count: int = 2048, seed: int = 0) -> Pixels:
        """Return `count` training images (all, if there are fewer) drawn by the seed, for norm statistics."""
        chosen: Pixels = self.train_images[drawn(len(self.train_images), count, seed)]
        return chosen


def drawn(population: int, count: int, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return `count` different positions below `population` (all, if there are fewer), in order, drawn by the seed."""
    return np.sort(np.random.default_rng([seed, population]).permutation(population)[:count])


def open_images(
    spec: str = "fashion-mnist-subset", *, validation_images: int | None = None, seed: int = 0, side: int | None = None,
    channels: int | None = None, cache: Path | None = None,
) -> ImageData:  # fmt: skip
    """Return the image data of this name or path.

    Where the data has no validation set of its own, `validation_images` (by default a tenth, 10,000 at most) are drawn
    from the training images by the seed. `side` and `channels` are for folders of images, which `cache`, an npz file,
    keeps decoded: it is written if absent and read if present.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there is not understood, or does not fit together.
    """
    arrays, class_names = _read(spec, side, channels, cache)
    if not class_names:
        classes = int(arrays["train_labels"].max(initial=-1)) + 1
        if classes > MOST_CLASSES:
            raise ValueError(f"train labels of {spec!r} run up to {classes - 1}; expected {MOST_CLASSES} classes at most")
        class_names = tuple(map(str, range(classes)))
    if "validation_images" not in arrays:
        _hold_out(spec, arrays, validation_images, seed)
    return ImageData(spec, class_names, **arrays)


def _read(spec: str, side: int | None, channels: int | None, cache: Path | None) -> tuple[Arrays, tuple[str, ...]]:
    if spec == "fashion-mnist-subset":
        with resources.as_file(resources.files("supernets") / "data" / SUBSET) as path:
            return read_npz(path)
    if spec == "fashion-mnist":
        if not fashion_mnist.FOLDER.is_dir():
            raise FileNotFoundError(
                f"images 'fashion-mnist' were not found in {fashion_mnist.FOLDER}; install Debian's package dataset-fashion-mnist, or give the path "
                "of a folder with its four idx files (supernets.training.fashion_mnist.download fetches them)"
            )
        return read_idx_folder(fashion_mnist.FOLDER), fashion_mnist.CLASS_NAMES
    path = Path(spec)
    if path.is_file():
        return read_npz(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"images {spec!r} were not found; expected fashion-mnist-subset, fashion-mnist, an npz file, or a folder with train/ and val/ or test/"
        )
    if any((path / name).is_file() or (path / f"{name}.gz").is_file() for name in IDX_FILES.values()):
        return read_idx_folder(path), ()
    if cache is not None and cache.is_file():
        return read_npz(cache)
    arrays, class_names = read_image_folder(path, side, channels)
    if cache is not None:
        write_npz(cache, arrays, class_names)
    return arrays, class_names


def _hold_out(spec: str, arrays: Arrays, count: int | None, seed: int) -> None:
    """Move `count` training images, drawn by the seed, into the validation set."""
    total = len(arrays["train_images"])
    count = min(total // 10, MOST_VALIDATION_IMAGES) if count is None else count
    if not 1 <= count < total or len(arrays["train_labels"]) != total:
        raise ValueError(f"{count} validation images cannot be held out of the {total} training images of {spec!r}; expected 1 to {total - 1}")
    held_out = np.zeros(total, dtype=bool)
    held_out[drawn(total, count, seed)] = True
    for part in ("images", "labels"):
        arrays[f"validation_{part}"], arrays[f"train_{part}"] = arrays[f"train_{part}"][held_out], arrays[f"train_{part}"][~held_out]
