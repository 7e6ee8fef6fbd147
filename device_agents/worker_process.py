"""A worker as a child process of this one: a line out, a line back, with a time-out, and an end that leaves nothing behind.

Its stderr is drained all the time and its last lines go into every error. POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from device_agents.base import DeviceUnreachable, WorkerFailed
from device_agents.on_device import wire

MAX_REPLY_BYTES = 1 << 28  # what prints without end is stopped here; a visit of a million samples has 10 MB
STDERR_LINES = 5
STDERR_LINE_CHARACTERS = 300
CHUNK_BYTES = 1 << 16
STDERR_CHUNKS_AT_END = 16  # more than a pipe holds
QUIT_TIMEOUT_S = 5.0


class WorkerProcess:
    """Starts `command` and talks the wire format with it; `close` ends it, whatever state it is in.

    Raises (constructor):
        DeviceUnreachable: the command cannot be started.
    """

    def __init__(self, command: Sequence[str], device: str) -> None:
        self._device = device
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_rest = b""
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

    def ask(self, request: dict[str, Any], timeout_s: float, doing: str) -> dict[str, Any]:
        """Return the reply to a request, an `error` reply included; `doing` names the work in the text of an error.

        Raises:
            WorkerFailed: the worker died, did not answer in time, or answered no message; it has been ended then.
        """
        try:
            line, rest = self._exchange(wire.encode(request), timeout_s, doing)
            reply = wire.decode(line)
        except wire.WireError as error:
            raise self.failed(f"wrote what is no reply while {doing}: {error}") from None
        except BaseException:
            self.close()
            raise
        if rest or reply.get("reply") not in (request["request"], "error"):
            raise self.failed(f"replied {reply.get('reply')!r} and {len(rest)} further bytes to {request['request']!r} while {doing}")
        return reply

    def failed(self, what: str) -> WorkerFailed:
        """End the worker; return the error that says what it did wrong and how its stderr ended."""
        self._kill()
        if not self._process.stderr.closed:  # type: ignore[union-attr]
            for _ in range(STDERR_CHUNKS_AT_END):
                if not self._read_stderr():
                    break
            self._keep(self._stderr_rest)
        self.close()
        said = f"its stderr ended: {' | '.join(self._stderr)}" if self._stderr else "its stderr was empty"
        return WorkerFailed(f"worker of device {self._device!r} {what}; {said}")

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

    def _streams(self) -> list[Any]:
        return [self._process.stdin, self._process.stdout, self._process.stderr]

    def _exchange(self, pending: bytes, timeout_s: float, doing: str) -> tuple[bytes, bytes]:
        """Return the next line of stdout and what came after it, having written `pending` to stdin."""
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
                    raise self.failed(f"did not answer within {timeout_s:g} s while {doing}; raise timeout_s of the device, or plan less work")
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
        *lines, self._stderr_rest = (self._stderr_rest + chunk)[-CHUNK_BYTES:].split(b"\n")
        for line in lines:
            self._keep(line)
        return chunk

    def _keep(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._stderr.append(text[:STDERR_LINE_CHARACTERS])

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
