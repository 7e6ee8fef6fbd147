"""A channel to a worker: a line out, a line back, with a time-out, and an end that leaves nothing behind.

The last lines of the worker's stderr go into every error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from device_agents.base import WorkerFailed
from device_agents.on_device import wire

MAX_REPLY_BYTES = 1 << 28  # what prints without end is stopped here; a visit of a million samples has 10 MB
STDERR_LINES = 5
STDERR_LINE_CHARACTERS = 300
CHUNK_BYTES = 1 << 16
QUIT_TIMEOUT_S = 5.0


class WorkerChannel(ABC):
    """Talks the wire format with a worker that was started; `close` ends it, whatever state it is in."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_rest = b""

    def ask(self, request: dict[str, Any], timeout_s: float, doing: str) -> dict[str, Any]:
        """Return the reply to a request, an `error` reply included; `doing` names the work in the text of an error.

        Raises:
            WorkerFailed: the worker died, did not answer in time, or answered no message; it has been ended then.
            DeviceUnreachable: the connection to the device was lost.
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
        self._end_and_listen()
        self._keep(self._stderr_rest)
        self.close()
        said = f"its stderr ended: {' | '.join(self._stderr)}" if self._stderr else "its stderr was empty"
        return WorkerFailed(f"worker of device {self._device!r} {what}; {said}")

    def timed_out(self, timeout_s: float, doing: str) -> WorkerFailed:
        """End the worker; return the error for one that did not answer in time."""
        return self.failed(f"did not answer within {timeout_s:g} s while {doing}; raise timeout_s of the device, or plan less work")

    @abstractmethod
    def quit(self) -> None:
        """Ask the worker to end, and see to it."""

    @abstractmethod
    def close(self) -> None:
        """End the worker and what it started, at once; does nothing where it has ended."""

    @abstractmethod
    def _exchange(self, pending: bytes, timeout_s: float, doing: str) -> tuple[bytes, bytes]:
        """Return the next line of stdout and what came after it, having written `pending` to stdin."""

    @abstractmethod
    def _end_and_listen(self) -> None:
        """End the worker, and give what its stderr still holds to `_hear`."""

    def _hear(self, chunk: bytes) -> None:
        """Keep the last lines of stderr, of which this is the next piece."""
        *lines, self._stderr_rest = (self._stderr_rest + chunk)[-CHUNK_BYTES:].split(b"\n")
        for line in lines:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._stderr.append(text[:STDERR_LINE_CHARACTERS])
