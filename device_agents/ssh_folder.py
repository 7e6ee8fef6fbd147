"""A private folder on a device that SSH reaches, with our worker in it; gone with the connection, however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

from device_agents.archive import ON_DEVICE
from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing
from device_agents.ssh_connection import COMMAND_TIMEOUT_S, SshConnection

OLDEST_PYTHON = (3, 9)
# the first thing that a device runs, whatever its Python is; on one line and without ', for any shell
STARTER = (
    "import sys; sys.version_info < {oldest} and "
    '(sys.stdout.write("too old: %d.%d\\n" % sys.version_info[:2]), sys.stdout.flush(), sys.exit(0)); exec(sys.stdin.read({size}))'
)
TOO_OLD = b"too old: "
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes of a shell
CLOSE_TIMEOUT_S = 5.0
LAST_WORDS_S = 1.0  # of waiting for more to quote in an error


class PythonUnfit(RuntimeMissing):
    """The device's Python is not there, does not start, or is too old."""


class FolderRefused(DeviceError):
    """No private folder could be made on the device."""


@dataclass(frozen=True)
class RemotePython:
    """What the device's Python said of itself."""

    command: str
    version: str
    numpy_version: str | None
    allowed_cores: tuple[int, ...] | None


class RemoteFolder:
    """Makes a folder in `parent` (None: where temporary files go) that only the user can read, kept by a process that removes it at its end.

    Raises (constructor):
        PythonUnfit, FolderRefused, DeviceUnreachable: it cannot be made.
    """

    def __init__(self, connection: SshConnection, command: str, parent: str | None) -> None:
        self._connection = connection
        source = (ON_DEVICE / "keeper.py").read_text(encoding="ascii")
        starter = STARTER.format(oldest=OLDEST_PYTHON, size=len(source))
        self._keeper = connection.start([command, "-I", "-c", starter, parent or ""])
        self._files = 0
        try:
            answer = connection.run(self._begin(source.encode("ascii"), command), COMMAND_TIMEOUT_S, f"starting {command!r}")
            if answer["folder"] is None:
                raise FolderRefused(
                    f"{connection.who} cannot make a folder in {answer['parent']}: {answer['error']}; "
                    "set `folder` of the device to a folder that its user can write"
                )
        except BaseException:
            self.close()
            raise
        cores = answer["allowed_cores"]
        self.path: str = answer["folder"]
        self.python = RemotePython(command, answer["python_version"], answer["numpy_version"], None if cores is None else tuple(cores))

    async def _begin(self, source: bytes, command: str) -> dict[str, Any]:
        """Return what the keeper says first."""
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(source)
        said = b""
        while not said.endswith(b"\n"):
            chunk = await self._keeper.stdout.read(1 << 16)
            if not chunk:
                break
            said += chunk
        *_, last = said.splitlines() or [b""]
        if last.startswith(TOO_OLD):
            version = last[len(TOO_OLD) :].decode(errors="replace")
            raise PythonUnfit(f"{self._connection.who} has {command!r} of Python {version}; expected 3.9 or later: set `python` of the device")
        try:
            answer = dict(json.loads(last))
        except (ValueError, TypeError):
            raise await self._not_begun(said, command) from None
        if "folder" not in answer:
            raise await self._not_begun(said, command)
        return answer

    async def _not_begun(self, said: bytes, command: str) -> DeviceError:
        who = self._connection.who
        stderr = b""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            stderr = await asyncio.wait_for(self._keeper.stderr.read(), LAST_WORDS_S)
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._keeper.wait_closed(), LAST_WORDS_S)
        if self._connection.is_lost:
            return self._connection.lost(f"starting {command!r}")
        words = " | ".join((stderr or said).decode(errors="replace").strip().splitlines()[-2:])[-300:] or "it said nothing"
        if self._keeper.exit_status == NOT_FOUND:
            return PythonUnfit(f"{who} has no {command!r} ({words}); install Python 3.9 or later there, or set `python` of the device")
        if self._keeper.exit_status == NOT_EXECUTABLE:
            return PythonUnfit(f"{who} cannot run {command!r} ({words}); set `python` of the device to its Python 3.9 or later")
        if not stderr:
            return DeviceUnreachable(f"the shell of {who} prints {words!r} before a command's output; see that its start-up files print nothing")
        return PythonUnfit(f"{command!r} of {who} does not run our program: {words}; set `python` of the device to its Python 3.9 or later")

    @property
    def is_lost(self) -> bool:
        """Whether the connection, or the process that keeps the folder, has ended."""
        return self._connection.is_lost or self._keeper.exit_status is not None or self._keeper.is_closing()

    def put(self, data: bytes) -> str:
        """Return the path of a new file with this content."""
        self._files += 1
        path = f"{self.path}/file{self._files}"
        self._connection.put(data, path)
        return path

    def close(self) -> None:
        """Have the folder removed, and wait for that."""
        with contextlib.suppress(DeviceError):
            self._connection.run(self._end(), CLOSE_TIMEOUT_S, "removing its folder")

    async def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._keeper.stdin.write_eof()
        try:
            await asyncio.wait_for(self._keeper.wait_closed(), CLOSE_TIMEOUT_S / 2)
        finally:
            self._keeper.close()
