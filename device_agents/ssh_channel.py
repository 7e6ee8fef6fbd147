"""A worker on a device, talked to over SSH."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from device_agents.base import DeviceError, WorkerFailed
from device_agents.ssh_connection import SshConnection
from device_agents.worker_channel import CHUNK_BYTES, MAX_REPLY_BYTES, QUIT_TIMEOUT_S, WorkerChannel


class _Ended(Exception):
    """The worker's stdout is at its end."""


class _TooMuch(Exception):
    """The worker wrote this many bytes without a line's end."""


class SshChannel(WorkerChannel):
    """Starts `command` on the device and talks the wire format with it.

    Raises (constructor):
        DeviceUnreachable: the connection was lost.
    """

    def __init__(self, connection: SshConnection, command: Sequence[str], device: str) -> None:
        super().__init__(device)
        self._connection = connection
        self._process = connection.start(command)
        self._is_closed = False
        self._listening = connection.run(self._listen(), QUIT_TIMEOUT_S, "starting the worker")

    async def _listen(self) -> asyncio.Task[None]:
        async def listen() -> None:
            with contextlib.suppress(Exception):  # a lost connection shows on stdout
                while chunk := await self._process.stderr.read(CHUNK_BYTES):
                    self._hear(chunk)

        return asyncio.get_running_loop().create_task(listen())

    def quit(self) -> None:
        """Ask the worker to end, and see to it."""
        with contextlib.suppress(DeviceError):  # all visits are in: how it ends matters no more
            self.ask({"request": "quit"}, QUIT_TIMEOUT_S, "ending")
            self._connection.run(self._process.wait_closed(), QUIT_TIMEOUT_S, "waiting for the worker's end")
        self.close()

    def close(self) -> None:
        """End the worker, at once; does nothing where it has ended."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(DeviceError):
                self._connection.run(self._end_process(), QUIT_TIMEOUT_S, "ending the worker")

    def _exchange(self, pending: bytes, timeout_s: float, doing: str) -> tuple[bytes, bytes]:
        if self._is_closed:
            raise WorkerFailed(f"worker of device {self._device!r} was closed before {doing}; measure again")
        try:
            answer = self._connection.run(self._converse(pending, timeout_s), timeout_s + QUIT_TIMEOUT_S, doing)
        except _Ended:
            raise self.failed(f"{self._end(doing)} while {doing}") from None
        except _TooMuch as error:
            raise self.failed(f"wrote {error} bytes without a line's end while {doing}") from None
        if answer is None:
            raise self.timed_out(timeout_s, doing)
        return answer

    async def _converse(self, pending: bytes, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Return the reply and what came after it, or nothing where the time ended first."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            return await asyncio.wait_for(self._reply(pending), timeout_s)
        return None

    async def _reply(self, pending: bytes) -> tuple[bytes, bytes]:
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more: the end shows on stdout
            self._process.stdin.write(pending)
        received: list[bytes] = []
        size = 0
        while chunk := await self._process.stdout.read(CHUNK_BYTES):
            received.append(chunk)
            size += len(chunk)
            if b"\n" in chunk:
                line, _, rest = b"".join(received).partition(b"\n")
                return line, rest
            if size > MAX_REPLY_BYTES:
                raise _TooMuch(size)
        raise _Ended

    def _end(self, doing: str) -> str:
        """Return how the process ended, whose stdout is at its end.

        Raises:
            DeviceUnreachable: the connection is what ended.
        """
        with contextlib.suppress(DeviceError):
            self._connection.run(self._process.wait_closed(), QUIT_TIMEOUT_S, doing)
        if self._process.exit_signal is not None:
            return f"was killed by SIG{self._process.exit_signal[0]}"
        if self._process.exit_status is not None and self._process.exit_status >= 0:
            return f"ended with exit status {self._process.exit_status}"
        if self._connection.is_lost:
            raise self._connection.lost(doing)
        return "closed its stdout"

    def _end_and_listen(self) -> None:
        with contextlib.suppress(DeviceError):
            self._connection.run(self._end_process(), QUIT_TIMEOUT_S, "ending the worker")

    async def _end_process(self) -> None:
        """Kill the process, and wait until it has ended and its stderr was heard."""
        process: Any = self._process
        if process.exit_status is None and not process.is_closing():
            with contextlib.suppress(OSError):  # closed in the meantime
                process.kill()
        await asyncio.wait({self._listening}, timeout=1.0)
        self._listening.cancel()
        process.close()
        await process.wait_closed()
