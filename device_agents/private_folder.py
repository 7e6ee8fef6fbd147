"""A folder for one worker's files, gone with it; one whose owner was killed is removed by the next that comes."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agents.on_device.keeper import LOCK, PREFIX, STARTING_S, remove_abandoned

__all__ = ["LOCK", "PREFIX", "STARTING_S", "private_folder"]


@contextmanager
def private_folder() -> Iterator[Path]:
    """Give an empty folder that only this user can read; it is gone afterwards."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, Path(name, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)
