"""This machine as a device: the same archive that is shipped to others, run by a Python of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from device_agents.private_folder import private_folder
from device_agents.worker_agent import TIMEOUT_S, WorkerAgent, last_cores
from device_agents.worker_process import WorkerProcess


class LocalAgent(WorkerAgent):
    """Times models on this machine, in a fresh worker process for each `measure`, pinned to `cores` ([] does not pin).

    Raises (constructor):
        ValueError: a setting is out of range or unknown.
    """

    setting_names: ClassVar[tuple[str, ...]] = ("runtime", "threads", "cores", "batch", "precision", "python", "timeout_s")

    def __init__(self, device: str = "local", *, runtime: str = "onnxruntime", threads: int = 1, cores: Sequence[int] | None = None, batch: int = 1,
                 precision: str = "float32", python: str | None = None, timeout_s: float = TIMEOUT_S,
                 worker_archive: bytes | None = None) -> None:  # fmt: skip
        super().__init__(device, runtime=runtime, threads=threads, cores=cores, batch=batch, precision=precision, timeout_s=timeout_s,
                         worker_archive=worker_archive)  # fmt: skip
        if self.cores is None:
            self.cores = default_cores(self.threads)
        self.python = python or sys.executable

    @contextmanager
    def _place(self) -> Iterator[_LocalPlace]:
        with private_folder() as folder:
            yield _LocalPlace(folder, self.python, self._archive, self.device)


class _LocalPlace:
    """A private folder of this machine."""

    def __init__(self, folder: Path, python: str, program: bytes, device: str) -> None:
        self._folder, self._python, self._program, self._device = folder, python, program, device
        self._files = 0

    def start(self) -> WorkerProcess:
        program = self._folder / "worker.pyz"
        program.write_bytes(self._program)
        return WorkerProcess([self._python, "-I", str(program)], self._device)

    def put(self, data: bytes) -> str:
        self._files += 1
        path = self._folder / f"file{self._files}"
        path.write_bytes(data)
        return str(path)

    def get(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def remove(self, path: str) -> None:
        Path(path).unlink()

    def allowed_cores(self) -> list[int] | None:
        return allowed_cores()


def allowed_cores() -> list[int] | None:
    """Return the cores that this process may use, in ascending order; None where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def default_cores(threads: int) -> tuple[int, ...]:
    """Return the last cores this process may use, one a thread.

    Raises:
        ValueError: there are fewer cores than threads, or this system cannot tell.
    """
    return last_cores(threads, allowed_cores())
