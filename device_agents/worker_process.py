"""A worker as a child process of this one. Its stderr is drained all the time. POSIX only."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from device_agents.base import DeviceUnreachable, WorkerFailed
from device_agents.worker_channel import CHUNK_BYTES, MAX_REPLY_BYTES, QUIT_TIMEOUT_S, WorkerChannel

STDERR_CHUNKS_AT_END = 16  # more than a pipe holds


class WorkerProcess(WorkerChannel):
    """Starts `command` and talks the wire format with it.

    Raises (constructor):
        DeviceUnreachable: the command cannot be started.
    """

    def __init__(self, command: Sequence[str], device: str) -> None:
        super().__init__(device)
        try:  # a session of its own: Ctrl-C in the terminal reaches the host only, which then ends the worker
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                             start_new_session=True)  # fmt: skip
        except OSError as error:
            raise DeviceUnreachable(f"device {device!r} cannot start {command[0]!r}: {error}; set `python` of the device") from error
        for stream in self._streams():
            os.set_blocking(stream.fileno(), False)

    @property
    def pid(self) -> int:
        """Id of the process started here."""
        return self._process.pid

    def quit(self) -> None:
        """Ask the worker to end, and see to it."""
        with contextlib.suppress(WorkerFailed, subprocess.TimeoutExpired):  # all visits are in: how it ends matters no more
            self.ask({"request": "quit"}, QUIT_TIMEOUT_S, "ending")
            self._process.wait(QUIT_TIMEOUT_S)
        self.close()

    def close(self) -> None:
        """End the worker and what it started, at once; does nothing where it has ended."""
        self._kill()
        for stream in self._streams():
            with contextlib.suppress(OSError):
                stream.close()

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _end_and_listen(self) -> None:
        self._kill()
        if not self._process.stderr.closed:  # type: ignore[union-attr]
            for _ in range(STDERR_CHUNKS_AT_END):
                if not self._read_stderr():
                    break

    def _streams(self) -> list[Any]:
        return [self._process.stdin, self._process.stdout, self._process.stderr]

    def _exchange(self, pending: bytes, timeout_s: float, doing: str) -> tuple[bytes, bytes]:
        stdin, stdout, stderr = self._streams()
        if stdout.closed:
            raise WorkerFailed(f"worker of device {self._device!r} was closed before {doing}; measure again")
        received: list[bytes] = []
        size = 0
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            for stream, events in ((stdin, selectors.EVENT_WRITE), (stdout, selectors.EVENT_READ), (stderr, selectors.EVENT_READ)):
                selector.register(stream, events)
            while True:
                ready = [key.fileobj for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
                if time.monotonic() >= deadline:
                    raise self.timed_out(timeout_s, doing)
                if stdin in ready:
                    pending = _write(stdin.fileno(), pending)
                    if not pending:
                        selector.unregister(stdin)
                if stderr in ready and self._read_stderr() == b"":
                    selector.unregister(stderr)
                if stdout in ready:
                    chunk = os.read(stdout.fileno(), CHUNK_BYTES)
                    received.append(chunk)
                    size += len(chunk)
                    if b"\n" in chunk:
                        line, _, rest = b"".join(received).partition(b"\n")
                        return line, rest
                    if not chunk:
                        raise self.failed(f"{self._end()} while {doing}")
                    if size > MAX_REPLY_BYTES:
                        raise self.failed(f"wrote {size} bytes without a line's end while {doing}")

    def _read_stderr(self) -> bytes | None:
        """Keep the last lines of a piece of stderr; returns the piece, empty at the end, None where nothing waits."""
        try:
            chunk = os.read(self._process.stderr.fileno(), CHUNK_BYTES)  # type: ignore[union-attr]
        except BlockingIOError:
            return None
        self._hear(chunk)
        return chunk

    def _end(self) -> str:
        """Return how the process ended, whose stdout is at its end."""
        try:
            code = self._process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "closed its stdout"
        names = [known.name for known in signal.Signals if known == -code]
        return f"was killed by {(*names, f'signal {-code}')[0]}" if code < 0 else f"ended with exit status {code}"


def _write(descriptor: int, pending: bytes) -> bytes:
    """Return what of `pending` could not be written yet; nothing where nobody reads any more, since the end shows on stdout."""
    try:
        return pending[os.write(descriptor, pending) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return b""
