"""Commands on a device with their exit codes: packets of the service `shell,v2`, and a marker where a device or a program on the way has none."""

from __future__ import annotations

import secrets
import shlex
import struct
from dataclasses import dataclass

from device_agents.android.transport import Finished

SERVICE = b"shell,v2,raw"  # Android 7 and newer; raw: no terminal in between, which would change line ends
STDOUT, STDERR, EXIT = 1, 2, 3
HEADER = struct.Struct("<BI")  # what follows and how many bytes
LONGEST_SCRIPT = 100_000  # bytes; Linux takes 128 KiB as one argument


def finished(stream: bytes) -> Finished | None:
    """Return how a command ended, or None if the stream broke off before it did."""
    parts: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    at = 0
    while len(stream) - at >= HEADER.size:
        kind, size = HEADER.unpack_from(stream, at)
        data = stream[at + HEADER.size : at + HEADER.size + size]
        if len(data) < size:
            return None
        if kind == EXIT:
            return Finished(data[0], b"".join(parts[STDOUT]), b"".join(parts[STDERR])) if data else None
        parts.setdefault(kind, []).append(data)
        at += HEADER.size + size
    return None


@dataclass(frozen=True)
class Marked:
    """A script that says at its end how it ended, in words that nobody else knows.

    Whatever it writes without that end was cut off. Where the device merges them, stdout holds stderr too.
    """

    script: str
    marker: bytes

    def finished(self, stdout: bytes, stderr: bytes = b"") -> Finished | None:
        """Return how it ended, or None if it was cut off."""
        written, found, code = stdout.rpartition(self.marker)
        if not found or not code.strip().isdigit() or not code.endswith(b"\n"):
            return None
        if code.endswith(b"\r\n"):  # a terminal was in between
            written = written.replace(b"\r\n", b"\n")
        return Finished(int(code), written, stderr)


def marked(script: str) -> Marked:
    """Return the script so that it tells its end; it runs in a shell of its own, which it may leave or break as it likes."""
    marker = f"end-{secrets.token_hex(8)}:"
    return Marked(f"sh -c {shlex.quote(script)}; echo {marker}$?", marker.encode())
