"""A folder for one worker's files, gone with it; one whose owner was killed is removed by the next that comes."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "elastic-latency-"
LOCK = "lock"  # held by the owner as long as it lives, on whichever machine or in whichever container
STARTING_S = 60.0  # a folder younger than this may not have its lock yet


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Give an empty folder that only this user can read; it is gone afterwards."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, Path(name, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def remove_abandoned(parent: Path) -> None:
    """Remove folders of owners that are dead."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or gone in the meantime
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < STARTING_S:
                continue
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
