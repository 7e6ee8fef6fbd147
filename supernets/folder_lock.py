"""A folder held by one process at a time; a process that is killed lets go of it."""

from __future__ import annotations

from pathlib import Path
from typing import IO

LOCK_FILE = ".lock"


class FolderInUseError(ValueError):
    """Another process works in the folder; the text names it."""


def hold(folder: Path, what: str) -> IO[str]:
    """Return the open file by which the folder is held; closing it lets go.

    Raises:
        FolderInUseError: another process holds it, for `what` as well.
        OSError: the folder cannot be written to.
    """
    import fcntl

    file = (folder / LOCK_FILE).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise FolderInUseError(f"folder {str(folder)!r} is in use by another {what}; wait for it, or use another folder") from error
    return file
