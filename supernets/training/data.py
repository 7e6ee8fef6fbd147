"""The image data a supernet is trained and judged on: training, validation (held out of training) and test images.

Named by one text: `fashion-mnist-subset` (comes with the package), `fashion-mnist` (whole, from a folder of idx files)
or the path of a folder of images in ImageNet's layout, of a folder of idx files, of an npz file, or of a folder that images were
decoded into. Options of a folder of images ride on its path: `imagenet:side=224,cache=decoded` (see `open_images`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from supernets.spaces import MOST_CLASSES
from supernets.training import fashion_mnist
from supernets.training.data_files import IDX_FILES, read_idx_folder, read_npz
from supernets.training.image_cache import Progress, decode_once, is_image_cache, open_image_cache
from supernets.training.image_folder import read_image_folder
from supernets.training.image_rows import ImageRows
from supernets.training.images import Pixels

Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
SUBSET = "fashion_mnist_subset.npz"  # in supernets/data; benchmarks/make_fashion_mnist_subset.py makes it
MOST_VALIDATION_IMAGES = 10_000  # what Once-for-All holds out of ImageNet's training images


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images (n, side, side, channels) uint8, in memory or rows on disk, and labels (n,) int64, counted from 0.

    Raises:
        ValueError: shapes or labels that do not fit each other.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: Pixels | ImageRows
    train_labels: Labels
    validation_images: Pixels | ImageRows
    validation_labels: Labels
    test_images: Pixels | ImageRows
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
        """SHA-256 over every image (of images on disk: over the one kept with them) and label, and which of the three sets each is in."""
        digest = hashlib.sha256()
        for part in ("train", "validation", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            digest.update(f"{part} {images.shape}".encode())
            digest.update(images.fingerprint if isinstance(images, ImageRows) else images.tobytes())
            digest.update(labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def calibration_rows(self, count: int = 2048, seed: int = 0) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the positions of `count` training images (all, if there are fewer) drawn by the seed, for norm statistics."""
        return drawn(len(self.train_images), count, seed)

    def calibration_images(self, count: int = 2048, seed: int = 0) -> Pixels:
        """Return the pixels of those images."""
        chosen: Pixels = self.train_images[self.calibration_rows(count, seed)]
        return chosen


def drawn(population: int, count: int, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return `count` different positions below `population` (all, if there are fewer), in order, drawn by the seed."""
    return np.sort(np.random.default_rng([seed, population]).permutation(population)[:count])


def picked(images: Pixels | ImageRows, rows: np.ndarray[Any, Any]) -> Pixels | ImageRows:
    """Return some of the images (positions, or a mask); those on disk stay there."""
    if isinstance(images, ImageRows):
        return images.picked(rows)
    chosen: Pixels = images[rows]
    return chosen


def open_images(
    spec: str = "fashion-mnist-subset", *, validation_images: int | None = None, seed: int = 0, side: int | None = None,
    channels: int | None = None, cache: Path | None = None, progress: Progress | None = None,
) -> ImageData:  # fmt: skip
    """Return the image data of this name or path.

    Where the data has no validation set of its own, `validation_images` (by default a tenth, 10,000 at most) are drawn
    from the training images by the seed. Folders of images are decoded to `side` pixels and so many `channels`, into memory
    or, with `cache`, once into that folder, from which only the rows in use are read; `progress` is told how many are done.
    These three may also be said in the text, as in `imagenet:side=224,cache=/fast/imagenet-224`. Into a folder it is fresh processes
    that decode, so a script that calls this does so under `if __name__ == "__main__":`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there is not understood, or does not fit together.
        DecodingProcessError: a process that decodes was killed; what was decoded is kept.
    """
    name, said = _parsed(spec)
    if said and (Path(name).exists() or name.startswith("fashion-mnist")) and not (Path(name) / "train").is_dir():
        raise ValueError(f"images {name!r} have the option {next(iter(said))!r}, which is for folders of image files; leave it out")
    side, channels = (said.get(key) if given is None else given for key, given in (("side", side), ("channels", channels)))
    arrays, class_names = _read(name, side, channels, said.get("cache") if cache is None else cache, progress)
    if not class_names:
        classes = int(arrays["train_labels"].max(initial=-1)) + 1
        if classes > MOST_CLASSES:
            raise ValueError(f"train labels of {name!r} run up to {classes - 1}; expected {MOST_CLASSES} classes at most")
        class_names = tuple(map(str, range(classes)))
    if "validation_images" not in arrays:
        _hold_out(name, arrays, validation_images, seed)
    return ImageData(name, class_names, **arrays)


def _parsed(spec: str) -> tuple[str, Mapping[str, Any]]:
    """Return the name or path in `NAME:option=value,...`, and the options."""
    name, colon, text = spec.rpartition(":")
    if not colon or "=" not in text or Path(spec).exists():
        return spec, {}
    options: dict[str, Any] = {}
    for each in text.split(","):
        key, _, value = each.partition("=")
        fits = {"cache": bool(value), "side": value.isdecimal() and int(value) > 0, "channels": value in ("1", "3")}
        if key in options or not fits.get(key, False):
            raise ValueError(f"images {spec!r} have the option {each!r}; expected side=PIXELS, channels=1, channels=3, cache=FOLDER, each once")
        options[key] = Path(value) if key == "cache" else int(value)
    return name, options


def _read(
    spec: str, side: int | None, channels: int | None, cache: Path | None, progress: Progress | None
) -> tuple[dict[str, Any], tuple[str, ...]]:  # fmt: skip
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
    if is_image_cache(path):
        return open_image_cache(path)
    if cache is None:
        return read_image_folder(path, side, channels)
    decode_once(path, cache, side, channels, progress=progress)
    return open_image_cache(cache)


def _hold_out(spec: str, arrays: dict[str, Any], count: int | None, seed: int) -> None:
    """Move `count` training images, drawn by the seed, into the validation set; those on disk stay there."""
    total = len(arrays["train_images"])
    count = min(total // 10, MOST_VALIDATION_IMAGES) if count is None else count
    if not 1 <= count < total or len(arrays["train_labels"]) != total:
        raise ValueError(f"{count} validation images cannot be held out of the {total} training images of {spec!r}; expected 1 to {total - 1}")
    held_out = np.zeros(total, dtype=bool)
    held_out[drawn(total, count, seed)] = True
    images, labels = arrays["train_images"], arrays["train_labels"]
    for part, rows in (("validation", held_out), ("train", ~held_out)):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = picked(images, rows), labels[rows]
