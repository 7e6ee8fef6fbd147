"""Writing a file whole or not at all: after a crash, a kill or a full disk the old one is there, or none, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME_KEPT = 40  # characters of the file's name in its temporary file's: a long name must not become too long


def write_whole(path: str | Path, content: bytes) -> None:
    """Write the file; folders it lacks are made.

    Raises:
        OSError: it cannot be written; `filename` is the path given, never the temporary file's.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file beside `path`, which takes its place once it is whole and on disk; raises what `write_whole` does."""
    path = Path(path)
    try:
        _make_folder(path.parent)
        if path.exists() and not path.is_file():
            raise OSError(errno.EISDIR, "a folder, or something else that is no plain file, has that name")
        temporary = path.with_name(f".{path.name[:NAME_KEPT]}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OSError(errno.ENOTDIR, f"{folder} is a file, not a folder") from None
