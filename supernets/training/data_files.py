"""Files of arrays of images: idx files (MNIST's format), npz files. Folders of image files: `image_folder`.

Images are uint8 of shape (n, side, side, channels), labels int64 of shape (n,), counted from 0.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from supernets.atomic_file import replacing

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]  # train_images, train_labels, test_images, test_labels, maybe validation_*
IDX_FILES = {
    "train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte", "test_labels": "t10k-labels-idx1-ubyte",
}  # fmt: skip

# Arrays of an npz file by the last word of their names: dimensions, kinds of numpy types, and both in words.
EXPECTED = {
    "images": (4, "u", "uint8 (n, side, side, channels)"),
    "labels": (1, "iu", "whole numbers (n,)"),
    "names": (1, "US", "texts (n_classes,)"),
}


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the array of an idx file of bytes, compressed by gzip or not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"file {str(path)!r} was not found; expected an idx file")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"file {str(path)!r} cannot be unpacked ({error}); expected gzip data, so fetch it again") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"file {str(path)!r} begins with {data[:4].hex() or 'nothing'}; expected an idx file of bytes, which begins with 000008")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(f"file {str(path)!r} ends inside its header, after {len(data)} bytes; fetch it again")
    shape = tuple(np.frombuffer(data[4:header], dtype=">u4").tolist())
    if len(data) - header != math.prod(shape):
        raise ValueError(f"file {str(path)!r} holds {len(data) - header} bytes; its header says {math.prod(shape)}, so fetch it again")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape).copy()  # bytes are read-only, of which PyTorch would warn


def read_idx_folder(folder: Path) -> Arrays:
    """Return the four arrays of a folder of idx files with MNIST's names, with or without `.gz`."""
    arrays: Arrays = {}
    for key, name in IDX_FILES.items():
        plain = folder / name
        array = read_idx(plain if plain.is_file() else folder / f"{name}.gz")
        arrays[key] = array[..., None] if key.endswith("images") else array.astype(np.int64)
    return arrays


def read_npz(path: Path) -> tuple[Arrays, tuple[str, ...]]:
    """Return the arrays and the class names (empty if it has none) of an npz file; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no npz file, arrays missing, unknown or of the wrong kind, or objects inside.
    """
    if not path.is_file():
        raise FileNotFoundError(f"file {str(path)!r} was not found; expected an npz file")
    needed, optional = list(IDX_FILES), ["validation_images", "validation_labels", "class_names"]
    if not zipfile.is_zipfile(path):  # numpy would try it as pickled objects, and advise to load those
        raise ValueError(f"file {str(path)!r} cannot be read as npz (it is no archive, or is cut off); expected plain arrays {', '.join(needed)}")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays: Arrays = {key: file[key] for key in file.files}
    except Exception as error:  # numpy, zipfile and zlib raise many kinds for a damaged file
        raise ValueError(f"file {str(path)!r} cannot be read as npz ({error}); expected plain arrays {', '.join(needed)}") from error
    missing, strange = [key for key in needed if key not in arrays], [key for key in arrays if key not in needed + optional]
    if missing or strange:
        raise ValueError(f"file {str(path)!r} holds the arrays {', '.join(arrays)}; expected {', '.join(needed)}, and may have {', '.join(optional)}")
    for key, array in arrays.items():
        dimensions, kinds, words = EXPECTED[key.rpartition("_")[2]]
        if array.ndim != dimensions or array.dtype.kind not in kinds:
            raise ValueError(f"array {key!r} of file {str(path)!r} is {array.dtype} of shape {array.shape}; expected {words}")
    names = tuple(str(name) for name in arrays.pop("class_names", np.array([], dtype="U1")))
    return {key: array.astype(np.int64) if key.endswith("labels") else array for key, array in arrays.items()}, names


def write_npz(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], class_names: tuple[str, ...] = ()) -> None:
    """Write what `read_npz` reads, compressed, whole or not at all."""
    with replacing(path) as file:
        np.savez_compressed(file, class_names=np.array(class_names, dtype=str), **arrays)  # type: ignore[arg-type]
