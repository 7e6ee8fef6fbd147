"""Some images at a time decoded and written into an array's file, in several processes: what `image_cache` is made of."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supernets.training.image_folder import DamagedImageError, decoded_as

MAIN_GUARD = 'if __name__ == "__main__":'


class DecodingProcessError(RuntimeError):
    """A process that decodes images was killed, or could not begin."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive images of a part: their files, and where in the part's array file their pixels go."""

    part: str
    number: int
    files: tuple[str, ...]
    path: Path
    offset: int
    shape: tuple[int, int, int]
    side: int | None

    @property
    def name(self) -> str:
        """The chunk's name among those of all parts."""
        return f"{self.part} {self.number}"


@dataclass(frozen=True)
class Written:
    """What became of a chunk: the SHA-256 of its pixels, or what is wrong with which of its files; then nothing was written."""

    sha256: str = ""
    damaged: tuple[tuple[str, str], ...] = ()  # (file, sentence)


def write_chunks(chunks: Sequence[Chunk], processes: int) -> Iterator[tuple[Chunk, Written]]:
    """Decode and write chunks, in fresh processes where there are to be several; yields each when it is done.

    Raises:
        DecodingProcessError: a process was killed; what was yielded before stands.
        OSError: a file cannot be written; `filename` is its name.
    """
    if processes <= 1:
        yield from ((chunk, write_chunk(chunk)) for chunk in chunks)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin)
    try:
        futures: dict[Future[Written], Chunk] = {pool.submit(write_chunk, chunk): chunk for chunk in chunks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DecodingProcessError(
            f"a process that decodes images was killed (often for lack of memory) or could not begin (a script that decodes does so under"
            f" `{MAIN_GUARD}`); what was decoded is kept, the same call goes on from there"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_importing() -> None:
    """Do nothing, except in a process that is being started and runs its caller's script: it would wait for its caller for ever.

    Raises:
        DecodingProcessError: this is such a process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself tells it
        raise DecodingProcessError(f"images are decoded in fresh processes, which run the script again; have it decode under `{MAIN_GUARD}`")


def write_chunk(chunk: Chunk) -> Written:
    """Write a chunk's pixels to disk, unless a file of it is damaged."""
    pixels, damaged = np.zeros((len(chunk.files), *chunk.shape), dtype=np.uint8), []
    for row, name in enumerate(chunk.files):
        try:
            pixels[row] = decoded_as(name, chunk.shape, chunk.side)
        except DamagedImageError as error:
            damaged.append((name, str(error)))
    if damaged:
        return Written(damaged=tuple(damaged))
    with told(chunk.path), chunk.path.open("r+b") as file:
        file.seek(chunk.offset)
        file.write(pixels.data)
        file.flush()
        os.fsync(file.fileno())
    return Written(hashlib.sha256(pixels.data).hexdigest())


def allocated(path: Path, header: bytes, size: int) -> bool:
    """Return whether an array's file is there; if it is not, make it, so that a disk that is too small says so at once."""
    if path.is_file() and path.stat().st_size == len(header) + size:
        return True
    try:
        with told(path, f", {size / 1e9:.3g} GB are needed"), path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, len(header) + size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return False


@contextmanager
def told(path: Path, needed: str = "") -> Iterator[None]:
    """Tell what cannot be written by the file's name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written{needed}: {error.strerror or error}", str(path)) from error


def _begin() -> None:
    """Begin a process: Ctrl-C is for the caller, and without the caller nothing more is to be written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_caller, daemon=True).start()


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)
