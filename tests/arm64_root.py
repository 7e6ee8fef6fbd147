"""The root folder of the arm64 system that arm64_userland.sh makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("arm64_userland.sh")
CACHE = Path(__file__).parents[1] / ".cache" / "arm64"


def arm64_root() -> Path:
    """Return it, ready to run; skips the test where it was not made, or where this machine cannot run arm64 programs."""
    root = Path(os.environ.get("ELASTIC_LATENCY_ARM64", CACHE)) / "root"
    if not (root / "made-by").exists():
        pytest.skip(f"there is no arm64 userland in {root}; make it with tests/arm64_userland.sh")
    done = subprocess.run([SCRIPT, root.parent], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine cannot run arm64 programs: {done.stderr.strip()[-200:]}")
    return root
