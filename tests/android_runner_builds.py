"""The native stand-in for benchmark_model, `android_runner/benchmark_model.c`, compiled once a test process; a fault is a copy of another name."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "android_runner" / "benchmark_model.c"
NS_A_BYTE = 10  # of the model file, for one run


@functools.cache
def _built() -> bytes | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        subprocess.run([compiler, "-O2", "-o", program, SOURCE, "-lm"], check=True, timeout=120)
        return program.read_bytes()


def runner(folder: Path, fault: str = "", name: str = "benchmark_model") -> Path:
    """Return the path of the runner in a folder, with a fault of the names in its source; skips where nothing can compile it."""
    program = _built()
    if program is None:
        pytest.skip("compiling the native runner needs a C compiler (cc, gcc or clang)")
    path = folder / f"{name}{fault}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(program)
    path.chmod(0o755)
    return path


def model(milliseconds: float) -> bytes:
    """Return a model file that the runner takes so long for."""
    return b"\0" * round(milliseconds * 1e6 / NS_A_BYTE)
