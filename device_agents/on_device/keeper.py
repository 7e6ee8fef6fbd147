"""The keeper of a private folder on a device: says what its Python is, and removes the folder when its stdin closes.

Its stdin closes when the host ends the connection, is killed, or is lost. A folder whose keeper was killed itself is
removed by the next one that comes: a keeper holds a lock in its folder for as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PREFIX = "elastic-latency-"
LOCK = "lock"  # held by the owner as long as it lives, on whichever machine or in whichever container
STARTING_S = 60.0  # a folder younger than this may not have its lock yet
REMOVALS = 5  # a worker that is ending may still write


def main(parent: str) -> None:
    """Make a folder in `parent` (empty: where temporary files go), say so on stdout in one line of JSON, keep it until stdin closes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        where = Path(parent or tempfile.gettempdir())
        remove_abandoned(where)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
    except OSError as error:
        _say({"folder": None, "error": error.strerror or str(error), "parent": parent or "the folder of temporary files", **python()})
        return
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _say({"folder": str(folder), **python()})
            while os.read(0, 4096):
                pass
    finally:
        for _ in range(REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.2)


def python() -> dict[str, Any]:
    """Return what this Python is, and which cores its processes may use."""
    return {
        "python": sys.executable, "python_version": platform.python_version(), "numpy_version": _version("numpy"),
        "allowed_cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }  # fmt: skip


def remove_abandoned(parent: Path) -> None:
    """Remove folders of owners that are dead."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or gone in the meantime
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < STARTING_S:
                continue
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


def _version(package: str) -> str | None:
    """Return the version of a package that could be imported."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end(number: int, frame: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
