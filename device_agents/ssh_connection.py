"""A connection to an SSH server for code that is not asynchronous: an event loop in a thread, and a time-out on every call."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar

from device_agents.base import DeviceError, DeviceUnreachable
from device_agents.ssh_hosts import SshHost
from device_agents.ssh_login import CONNECT_TIMEOUT_S, LOGIN_TIMEOUT_S, imported_asyncssh, log_in

Result = TypeVar("Result")

COMMAND_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 5.0
SLOWEST_BYTES_PER_S = 50_000
AGAIN = "see that it is on and in the network, and run the same command to go on"


@dataclass(frozen=True)
class Finished:
    """How a command ended on the device; no exit code where a signal ended it."""

    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return " | ".join(lines[-3:])[-400:] or "it said nothing"


class SshConnection:
    """One login to one host; every method raises DeviceUnreachable once it is lost.

    Raises (constructor):
        DeviceUnreachable: see `log_in`.
        ImportError: asyncssh is not installed.
    """

    def __init__(self, host: SshHost, device: str) -> None:
        self.who = f"device {device!r} ({host})"
        self._asyncssh = imported_asyncssh()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ssh to {host}", daemon=True)
        self._thread.start()
        self._sftp: Any = None
        try:
            self._connection, self._client = self.run(log_in(host, self.who), 4 * (CONNECT_TIMEOUT_S + LOGIN_TIMEOUT_S), "connecting")
        except BaseException:
            self._stop()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._loop.is_closed() or bool(self._client.is_lost)

    @property
    def fingerprint(self) -> str:
        """The host key that was checked."""
        key = self._connection.get_server_host_key()
        return "a certified key" if key is None else f"{key.get_algorithm()} {key.get_fingerprint()}"

    @property
    def user(self) -> str:
        """Who is logged in."""
        return str(self._connection.get_extra_info("username"))

    def run(self, work: Coroutine[Any, Any, Result], timeout_s: float, doing: str) -> Result:
        """Return what a coroutine returns that runs in the background loop.

        Raises:
            DeviceUnreachable: it did not end in time, or the connection was lost.
        """
        if self._loop.is_closed():
            work.close()
            raise DeviceUnreachable(f"the connection to {self.who} was closed before {doing}; measure again")
        future: Future[Result] = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout_s), self._loop)
        try:
            return future.result(timeout_s + CLOSE_TIMEOUT_S)  # later only where the loop itself has ended
        except CancelledError as error:  # by `close`, from another thread
            raise DeviceUnreachable(f"the connection to {self.who} was closed while {doing}; measure again") from error
        except (TimeoutError, asyncio.TimeoutError, FutureTimeoutError) as error:
            raise DeviceUnreachable(f"{self.who} did not answer within {timeout_s:g} s while {doing}; {AGAIN}") from error
        except (self._asyncssh.SFTPConnectionLost, self._asyncssh.SFTPNoConnection, self._asyncssh.DisconnectError, ConnectionError) as error:
            if isinstance(error, DeviceError):
                raise
            raise self.lost(doing, error) from error
        except BaseException:
            future.cancel()
            raise

    def lost(self, doing: str, error: object = None) -> DeviceUnreachable:
        """Return the error for a connection that ended."""
        why = f" ({error})" if str(error or "") else ""
        return DeviceUnreachable(f"the connection to {self.who} was lost while {doing}{why}; {AGAIN}")

    def start(self, command: Sequence[str]) -> Any:
        """Return a started asyncssh process with binary streams; its words are quoted for the device's shell, which becomes it."""
        return self.run(self._open(command), COMMAND_TIMEOUT_S, f"starting {command[0]!r}")

    def command(self, command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Return how a command ended on the device."""
        return self.run(self._finish(command), timeout_s, f"running {command[0]!r}")

    async def _open(self, command: Sequence[str]) -> Any:
        try:
            return await self._connection.create_process(shlex.join(["exec", *command]), encoding=None, stdin=self._asyncssh.PIPE)
        except self._asyncssh.ChannelOpenError as error:
            if self.is_lost:
                raise self.lost(f"starting {command[0]!r}", error.reason) from error
            raise DeviceError(f"{self.who} does not run commands: {error.reason}") from error

    async def _finish(self, command: Sequence[str]) -> Finished:
        process = await self._open(command)
        process.stdin.write_eof()
        stdout, stderr = await process.communicate()
        if process.exit_status is None and process.exit_signal is None and self.is_lost:
            raise self.lost(f"running {command[0]!r}")
        code = None if process.exit_status is None or process.exit_status < 0 else process.exit_status
        return Finished(code, (stdout or b"").decode(errors="replace"), (stderr or b"").decode(errors="replace"))

    # --- files ------------------------------------------------------------------------------------------------------------

    def home(self) -> str:
        """Return the folder that a login begins in."""
        return str(self._file_work("realpath", ".", doing="asking for the home folder"))

    def is_file(self, path: str) -> bool:
        """Return whether a file is there."""
        return bool(self._file_work("isfile", path, doing=f"looking for {path}"))

    def put(self, data: bytes, path: str) -> None:
        """Write a file.

        Raises:
            DeviceError: the disk is full, or the folder cannot be written.
        """
        doing = f"writing {len(data)} bytes to {path}"
        try:
            self.run(self._put(data, path), COMMAND_TIMEOUT_S + len(data) / SLOWEST_BYTES_PER_S, doing)
        except self._asyncssh.SFTPError as error:
            raise self._not_written(error, len(data), path) from error

    def get(self, path: str) -> bytes:
        """Return what is in a file.

        Raises:
            DeviceError: it cannot be read.
        """
        try:
            return self.run(self._get(path), 10 * COMMAND_TIMEOUT_S, f"reading {path}")
        except self._asyncssh.SFTPError as error:
            raise DeviceError(f"{self.who} does not give {path}: {error.reason}") from error

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._file_work("remove", path, doing=f"removing {path}")

    def _file_work(self, method: str, path: str, doing: str) -> Any:
        async def work() -> Any:
            return await getattr(await self._files(), method)(path)

        try:
            return self.run(work(), COMMAND_TIMEOUT_S, doing)
        except self._asyncssh.SFTPError as error:
            raise DeviceError(f"{self.who} failed while {doing}: {error.reason}") from error

    async def _files(self) -> Any:
        if self._sftp is None:
            try:
                self._sftp = await self._connection.start_sftp_client()
            except self._asyncssh.ChannelOpenError as error:
                raise DeviceError(f"{self.who} has no SFTP ({error.reason}); install it there: apt install openssh-sftp-server") from error
            except self._asyncssh.SFTPError as error:
                if self.is_lost:
                    raise
                raise DeviceError(
                    f"{self.who} speaks no SFTP ({error.reason}); install openssh-sftp-server there, and see that its shell prints nothing by itself"
                ) from error
        return self._sftp

    async def _put(self, data: bytes, path: str) -> None:
        async with (await self._files()).open(path, "wb") as file:
            await file.write(data)

    async def _get(self, path: str) -> bytes:
        async with (await self._files()).open(path, "rb") as file:
            return bytes(await file.read())

    def _not_written(self, error: Any, size: int, path: str) -> DeviceError:
        folder = path.rpartition("/")[0]
        with contextlib.suppress(DeviceError):
            self.remove(path)  # what a full disk took of it
        with contextlib.suppress(DeviceError):
            disk = self._file_work("statvfs", folder, doing=f"asking how full the disk of {folder} is")
            free = disk.bavail * disk.frsize
            if free < size:
                return DeviceError(f"the disk of {self.who} is full: {path} needs {size} bytes, and {free} are free; free some, or set `folder`")
        return DeviceError(f"{self.who} does not take the file {path}: {error.reason}; see that its disk has space and that {folder} is writable")

    # --- the end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection and what runs on it."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(DeviceError):
            self.run(self._close(), CLOSE_TIMEOUT_S, "closing it")
        self._stop()

    async def _close(self) -> None:
        self._connection.close()
        await self._connection.wait_closed()

    def _stop(self) -> None:
        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=CLOSE_TIMEOUT_S)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
