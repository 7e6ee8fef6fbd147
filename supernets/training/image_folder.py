"""Folders of images in ImageNet's layout: `train/`, `test/` and `val/`, each with a folder a class; and how one file is decoded.

`val/` beside `test/` is the validation set; alone it is the test set, as in ImageNet. Pixels are uint8 (side, side, channels).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from supernets.spaces import LARGEST_SIDE

Array: TypeAlias = np.ndarray[Any, Any]
Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")
GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N")  # of Pillow
ORIENTATION = 0x0112  # tag of EXIF
# what turns an image upright that was taken with this orientation, by the names of Pillow's transpositions
TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
MOST_IN_MEMORY = 4 * 10**9  # bytes of decoded images; ImageNet's at 224 pixels are 200 GB


class DamagedImageError(ValueError):
    """An image file that cannot be read, or is not of the size of the others; the text names it."""


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder of images: for each part (train, test, maybe validation) its folder and each class's file names."""

    folder: Path
    class_names: tuple[str, ...]
    parts: dict[str, tuple[str, tuple[tuple[str, ...], ...]]]

    def files(self, part: str) -> Iterator[str]:
        """Yield the paths of a part's images, class after class."""
        name, classes = self.parts[part]
        return (f"{self.folder}/{name}/{of}/{file}" for of, files in zip(self.class_names, classes, strict=True) for file in files)

    def labels(self, part: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the labels of a part's images, in the same order."""
        return np.repeat(np.arange(len(self.class_names)), [len(files) for files in self.parts[part][1]])

    @property
    def sha256(self) -> str:
        """SHA-256 over the names of all files, in order; what is in the files does not count."""
        digest = hashlib.sha256()
        for part, (name, classes) in self.parts.items():
            for of, files in zip(self.class_names, classes, strict=True):
                digest.update("\0".join((part, name, of, *files, "")).encode(errors="surrogateescape"))
        return digest.hexdigest()

    def shape(self, side: int | None, channels: int | None) -> tuple[int, int, int]:
        """Return the shape of a decoded image: as asked for, and where nothing is asked as the first training image's.

        Raises:
            ValueError: no image can have that side, or the first one cannot be read.
        """
        if side is not None and not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f"images of {str(self.folder)!r} are to be scaled to side {side}; expected 1 to {LARGEST_SIDE} pixels")
        height, width, depth = decoded(next(self.files("train")), side, channels).shape
        return height, width, depth


def listed(folder: Path) -> ImageFolder:
    """Return what a folder of images holds.

    Raises:
        FileNotFoundError: a folder, or all images of a class, is missing.
        ValueError: the classes of two folders differ.
    """
    names = _class_names(folder / "train")
    parts = {"train": "train", "test": "test" if (folder / "test").is_dir() else "val"}
    if parts["test"] == "test" and (folder / "val").is_dir():
        parts["validation"] = "val"
    for part in parts.values():
        found = _class_names(folder / part)
        if found != names:
            raise ValueError(f"folder {str(folder / part)!r} has the classes {few(found)}; expected those of train/, {few(names)}")
    return ImageFolder(folder, names, {key: (part, tuple(_image_names(folder / part / name) for name in names)) for key, part in parts.items()})


def few(names: tuple[str, ...]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())) if folder.is_dir() else ()
    if not names:
        raise FileNotFoundError(f"folder {str(folder)!r} has no class folders; expected train/ and val/ or test/, with a folder of images a class")
    return names


def _image_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES))
    if not names:
        raise FileNotFoundError(f"folder {str(folder)!r} has no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return names


def decoded(file: str, side: int | None, channels: int | None) -> Pixels:
    """Return the pixels of an image file.

    With `side`, it is scaled so that its shorter edge has it, and its middle is cut out; without, it must be square.
    `channels` None takes its own: 1 (grey) or 3 (colour). Photographs are turned as their EXIF says, and of 16 bits the upper 8 are taken.

    Raises:
        ImportError: the package that decodes images is missing.
        DamagedImageError: it cannot be read, is not square, or has pixels of 32 bits.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading image files needs the package 'pillow'; install it with pip install 'elastic-latency[train]'") from error
    try:
        with Image.open(file) as opened:
            opened.load()
            mode, image = opened.mode, _upright(opened)
            if mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            if channels is None:
                channels = 1 if mode in GREY_MODES else 3
            image = image.convert("L" if channels == 1 else "RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow has no class of its own: besides OSError it is ValueError, EOFError, struct.error, and others
        raise DamagedImageError(f"image {file!r} cannot be read ({str(error) or type(error).__name__}); remove it or fetch it again") from error
    if mode in ("I", "F"):
        raise DamagedImageError(f"image {file!r} is read as 32 bits a pixel, which tell no black and white; convert it to a PNG of 8 or 16 bits")
    if side is not None and image.size != (side, side):
        image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
    if image.width != image.height:
        raise _other_size(file, image.width, image.height)
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def _upright(image: Any) -> Any:
    """Return an image turned as its EXIF says; one whose EXIF cannot be read stays as it is."""
    from PIL import Image

    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # of any class, as in `decoded`; the pixels may be whole
        return image
    return image if turn is None else image.transpose(Image.Transpose[turn])


def decoded_as(file: str, shape: tuple[int, int, int], side: int | None) -> Pixels:
    """Return the pixels of an image file, of this shape.

    Raises:
        DamagedImageError: it cannot be read, or is of another size.
    """
    pixels = decoded(file, side, shape[2])
    if pixels.shape != shape:
        raise _other_size(file, pixels.shape[1], pixels.shape[0])
    return pixels


def _other_size(file: str, width: int, height: int) -> DamagedImageError:
    return DamagedImageError(
        f"image {file!r} is {width}x{height} pixels; expected one square size for all, so give the side to scale to, as in --images FOLDER:side=224"
    )


def read_image_folder(folder: Path, side: int | None = None, channels: int | None = None) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the arrays, in memory, and the class names of a folder of images; see `decoded` for `side` and `channels`.

    Raises:
        ImportError: the package that decodes images is missing.
        FileNotFoundError, ValueError: see `listed` and `decoded`; or the images are too many for memory.
    """
    source = listed(folder)
    shape = source.shape(side, channels)
    labels = {part: source.labels(part) for part in source.parts}
    size = sum(map(len, labels.values())) * int(np.prod(shape))
    if size > MOST_IN_MEMORY:
        raise ValueError(
            f"folder {str(folder)!r} is {size / 1e9:.0f} GB of images when decoded, too much for memory; "
            f"name a folder to keep them in, as in --images {folder}:side={shape[0]},cache=FOLDER"
        )
    arrays: dict[str, Array] = {}
    for part, of_part in labels.items():
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = np.empty((len(of_part), *shape), dtype=np.uint8), of_part
        for row, file in enumerate(source.files(part)):
            arrays[f"{part}_images"][row] = decoded_as(file, shape, side)
    return arrays, source.class_names
