"""A folder of images decoded once, into arrays in files that are read by memory mapping: what ImageNet needs.

    images.json                              what is in the folder; written last, so without it nothing here is whole
    train_images.npy, train_labels.npy, …    the arrays
    decoding.txt                             while files are decoded: of which work, and a line for each chunk that is on disk
    damaged.txt                              files that could not be decoded, a name a line, until all are

Killed, decoding goes on from the last chunk; of other images or another size, it begins anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from supernets.atomic_file import write_whole
from supernets.training.image_chunks import Chunk, allocated, refuse_importing, told, write_chunks
from supernets.training.image_folder import Array, DamagedImageError, ImageFolder, few, listed
from supernets.training.image_rows import ImageRows

KIND = "elastic-latency decoded images"
VERSION = 1
INDEX_FILE, UNDER_WAY_FILE, DAMAGED_FILE, LOCK_FILE = "images.json", "decoding.txt", "damaged.txt", ".lock"
CHUNK_IMAGES = 256  # decoded by one process at a time, and written together
Progress = Callable[[int, int], None]


def is_image_cache(folder: Path) -> bool:
    """Return whether a folder holds decoded images, all of them."""
    return (folder / INDEX_FILE).is_file()


def open_image_cache(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arrays, images still on disk, and the class names of a folder of decoded images.

    Raises:
        ValueError: a file is damaged, or of another kind.
    """
    index = _index(folder)
    arrays: dict[str, Any] = {}
    for part, count in index["images"].items():
        images, labels = _opened(folder / f"{part}_images.npy"), np.array(_opened(folder / f"{part}_labels.npy"))
        if images.shape != (count, *index["shape"]) or images.dtype != np.uint8 or labels.shape != (count,) or labels.dtype != np.int64:
            raise ValueError(f"files of {part} images in {str(folder)!r} are not those that {INDEX_FILE} tells of; remove the folder to decode anew")
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = ImageRows(images, index["sha256"][part]), labels
    return arrays, tuple(index["class_names"])


def decode_once(
    folder: Path, cache: Path, side: int | None = None, channels: int | None = None, processes: int | None = None, progress: Progress | None = None
) -> None:
    """Decode a folder of images into `cache`, unless that is done; `processes` are by default one a core.

    They are fresh ones, so a script that calls this does so under `if __name__ == "__main__":`.

    Raises:
        FileNotFoundError, ValueError: see `image_folder`; or the cache is of other images, or holds other files.
        DecodingProcessError: a process was killed; what was decoded is kept.
        OSError: it cannot be written; `filename` is the file's.
    """
    source = listed(folder)
    for name in ("train", "val", "test"):
        if (folder / name).resolve() in cache.resolve().parents:
            raise ValueError(f"folder {str(cache)!r} is inside {str(folder / name)!r}, where folders are classes; keep decoded images elsewhere")
    if not is_image_cache(cache):
        refuse_importing()
        with _locked(cache):
            if not is_image_cache(cache):
                _Decoding(source, cache, source.shape(side, channels), side).run(processes or os.cpu_count() or 1, progress)
    index, again = _index(cache), "remove it to decode anew, or use another folder"
    if index["source_sha256"] != source.sha256:
        raise ValueError(f"folder {str(cache)!r} was not decoded from the files that {str(folder)!r} has now; {again}")
    for what, found, wanted in (("side", index["shape"][0], side), ("channels", index["shape"][2], channels)):
        if wanted is not None and found != wanted:
            raise ValueError(f"folder {str(cache)!r} has images of {what} {found}, not {wanted}; {again}")


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_bytes())
        known = index["kind"] == KIND and index["version"] == VERSION and _is_whole(index)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        known = False
    if not known:
        raise ValueError(f"file {str(path)!r} is damaged, or of another kind or version; remove its folder to decode anew")
    return index  # type: ignore[no-any-return]


def _is_whole(index: dict[str, Any]) -> bool:
    """Return whether an index has all that is read of it, each of its type."""
    parts, lists = index["images"], (index["shape"], index["class_names"])
    return (
        {"train", "test"} <= set(parts) <= {"train", "validation", "test"} and set(index["sha256"]) == set(parts) and len(index["shape"]) == 3
        and all(isinstance(each, list) for each in lists) and all(type(size) is int for size in (*parts.values(), *index["shape"]))
        and all(isinstance(text, str) for text in (*index["sha256"].values(), *index["class_names"], index["source_sha256"]))
    )  # fmt: skip


def _opened(path: Path) -> Array:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except Exception as error:  # a damaged header ends in many classes, tokenize.TokenError among them
        raise ValueError(f"file {str(path)!r} cannot be read ({error}); remove its folder to decode anew") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone; others that decode into it wait, and then find it done."""
    import fcntl

    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        strange = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_FILE)
        if strange and not is_image_cache(folder) and not (folder / UNDER_WAY_FILE).is_file():
            raise ValueError(f"folder {str(folder)!r} has other files, such as {strange[0]!r}; give an empty or a new folder to keep images in")
        yield


class _Decoding:
    """One decoding of a folder of images into a cache."""

    def __init__(self, source: ImageFolder, cache: Path, shape: tuple[int, int, int], side: int | None) -> None:
        self.source, self.cache, self.shape, self.side = source, cache, shape, side
        self.work = f"{KIND} {VERSION} {source.sha256} {shape} {side} {CHUNK_IMAGES}"
        self.digests: dict[str, str] = {}  # of chunks that are on disk

    def run(self, processes: int, progress: Progress | None) -> None:
        """Decode what is not decoded, and write the index."""
        self._go_on()
        chunks = [chunk for part in self.source.parts for chunk in self._chunks(part)]
        total = sum(len(chunk.files) for chunk in chunks)
        damaged: list[tuple[str, str]] = []
        left = [chunk for chunk in chunks if chunk.name not in self.digests]
        done = total - sum(len(chunk.files) for chunk in left)
        for chunk, written in write_chunks(left, min(processes, len(left))):
            if not written.damaged:
                self.digests[chunk.name] = written.sha256
                with told(log := self.cache / UNDER_WAY_FILE), log.open("a") as file:
                    file.write(f"{chunk.name} {written.sha256}\n")
            damaged += written.damaged
            done += len(chunk.files)
            if progress is not None:
                progress(done, total)
        if damaged:
            raise self._told_of(damaged)
        self._finish(chunks)

    def _told_of(self, damaged: list[tuple[str, str]]) -> DamagedImageError:
        """Return what is wrong with the first file, and name the others; all of them are in a file."""
        names, path = tuple(file for file, _ in damaged), self.cache / DAMAGED_FILE
        write_whole(path, "".join(f"{name}\n" for name in names).encode(errors="surrogateescape"))
        others = f"; {len(names) - 1} more cannot be used, {few(names[1:])}; {str(path)!r} names them all" if names[1:] else ""
        return DamagedImageError(damaged[0][1] + others)

    def _go_on(self) -> None:
        """Take over what an earlier decoding of the same images had done, and remove what another one had."""
        path = self.cache / UNDER_WAY_FILE
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        if lines and lines[0] == f"{self.work}\n":
            whole = [line.rsplit(maxsplit=1) for line in lines[1:] if line.endswith("\n")]
            self.digests = {name: digest for name, digest in whole if len(digest) == 64}
            return
        for name in (*(f"{part}_images.npy" for part in self.source.parts), DAMAGED_FILE):
            (self.cache / name).unlink(missing_ok=True)
        write_whole(path, f"{self.work}\n".encode())

    def _chunks(self, part: str) -> list[Chunk]:
        files, path = list(self.source.files(part)), self.cache / f"{part}_images.npy"
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (len(files), *self.shape)})
        if not allocated(path, header.getvalue(), len(files) * int(np.prod(self.shape))):
            self.digests = {name: digest for name, digest in self.digests.items() if name.split()[0] != part}
        each = CHUNK_IMAGES * int(np.prod(self.shape))
        return [
            Chunk(part, number, tuple(files[first : first + CHUNK_IMAGES]), path, header.tell() + number * each, self.shape, self.side)
            for number, first in enumerate(range(0, len(files), CHUNK_IMAGES))
        ]

    def _finish(self, chunks: list[Chunk]) -> None:
        for part in self.source.parts:
            labels = io.BytesIO()
            np.save(labels, self.source.labels(part))
            write_whole(self.cache / f"{part}_labels.npy", labels.getvalue())
        index = {
            "kind": KIND, "version": VERSION, "shape": self.shape, "images": {part: len(self.source.labels(part)) for part in self.source.parts},
            "sha256": {
                part: hashlib.sha256("".join(self.digests[chunk.name] for chunk in chunks if chunk.part == part).encode()).hexdigest()
                for part in self.source.parts
            },
            "source_sha256": self.source.sha256, "class_names": self.source.class_names,
        }  # fmt: skip
        write_whole(self.cache / INDEX_FILE, json.dumps(index, indent=1).encode())
        for name in (UNDER_WAY_FILE, DAMAGED_FILE):
            (self.cache / name).unlink(missing_ok=True)
