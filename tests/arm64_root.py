"""The root folder of the arm64 system that arm64_userland.sh makes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("arm64_userland.sh")
CACHE = Path(__file__).parents[1] / ".cache" / "arm64"


@contextlib.contextmanager
def arm64_root() -> Iterator[Path]:
    """Give it, ready to run, to one test process at a time, as what is left in it is looked at.

    Skips the test where it was not made, or where this machine cannot run arm64 programs.
    """
    root = Path(os.environ.get("ELASTIC_LATENCY_ARM64", CACHE)) / "root"
    if not (root / "made-by").exists():
        pytest.skip(f"there is no arm64 userland in {root}; make it with tests/arm64_userland.sh")
    done = subprocess.run([SCRIPT, root.parent], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine cannot run arm64 programs: {done.stderr.strip()[-200:]}")
    with (root.parent / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root
