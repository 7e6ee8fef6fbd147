"""Images that stay on disk: an array in a file, of which only the rows that are asked for are read."""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

import numpy as np

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


class ImageRows:
    """Rows of a memory-mapped array (n, side, side, channels); indexing gives new arrays in memory.

    `sha256` is that of the whole array's content, told by whoever wrote it; `rows` picks some of its rows, in that order.
    Another process is sent the name of the file, not what is in it.
    """

    def __init__(self, array: Pixels, sha256: str, rows: np.ndarray[Any, np.dtype[np.intp]] | None = None) -> None:
        self._array, self._sha256 = array, sha256
        self._rows = np.arange(len(array)) if rows is None else rows
        self.shape, self.dtype, self.ndim = (len(self._rows), *array.shape[1:]), array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Pixels:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        return np.array(self._array[(self._rows[rows], *rest)])

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._array, np.memmap) and self._array.filename is not None:
            return (_reopened, (str(self._array.filename), self._sha256, self._rows))
        return (ImageRows, (self._array, self._sha256, self._rows))

    def picked(self, rows: np.ndarray[Any, Any]) -> ImageRows:
        """Return some of these rows (positions, or a mask), still on disk."""
        return ImageRows(self._array, self._sha256, self._rows[rows])

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 over the whole array's own, and which rows these are."""
        return hashlib.sha256(self._sha256.encode() + self._rows.astype("<i8").tobytes()).digest()


def _reopened(file: str, sha256: str, rows: np.ndarray[Any, np.dtype[np.intp]]) -> ImageRows:
    return ImageRows(np.load(file, mmap_mode="r", allow_pickle=False), sha256, rows)
