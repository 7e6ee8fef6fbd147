"""A test double of an Android transport: this machine's /bin/sh in place of a phone's, its programs in a folder of their own.

Files are where they say, so device folders must lie in a test's temporary folder. `programs` come first on the PATH: a
test plays `dumpsys`, `getprop` and `cmd` there. `faults` are raised in order, one for each call, None for none.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from device_agents.android.transport import COMMAND_TIMEOUT_S, FILE_TIMEOUT_S, ConnectionLost, Finished, Transport
from device_agents.base import DeviceError


class LocalShellTransport(Transport):
    """Runs scripts by /bin/sh here; `before` and `after` are called around every call with its name."""

    def __init__(self, programs: Path, serial: str = "double") -> None:
        self.serial = serial
        self.programs = programs
        programs.mkdir(exist_ok=True)
        self.before: Callable[[str], None] | None = None
        self.after: Callable[[str], None] | None = None
        self.pushed: list[str] = []
        self.shells = 0

    def program(self, name: str, script: str) -> Path:
        """Put a program of the phone's in place."""
        path = self.programs / name
        unfinished = self.programs / f".{name}"
        unfinished.write_text(f"#!/bin/sh\n{script}\n")
        unfinished.chmod(0o755)
        unfinished.replace(path)
        return path

    def shell(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        self._around("before", "shell")
        self.shells += 1
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": "/"}
        try:
            ended = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL, env=environment)
        except subprocess.TimeoutExpired:
            raise ConnectionLost(f"device {self.serial!r} did not answer within {timeout_s:g} s") from None
        self._around("after", "shell")
        code = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
        return Finished(code, ended.stdout, ended.stderr)

    def push(self, data: bytes, path: str, mode: int = 0o644, timeout_s: float = FILE_TIMEOUT_S) -> None:
        self._around("before", "push")
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(path).with_name(".part")
            unfinished.write_bytes(data)
            unfinished.chmod(mode)
            unfinished.replace(path)
        except OSError as error:
            raise DeviceError(f"{path!r} cannot be written on device {self.serial!r} ({error.strerror})") from error
        self.pushed.append(path)
        self._around("after", "push")

    def pull(self, path: str, timeout_s: float = FILE_TIMEOUT_S) -> bytes:
        self._around("before", "pull")
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise DeviceError(f"{path!r} cannot be read on device {self.serial!r} ({error.strerror})") from error

    def close(self) -> None:
        pass

    def _around(self, when: str, call: str) -> None:
        hook = self.before if when == "before" else self.after
        if hook is not None:
            hook(call)
