"""Files that are proved to have arrived: sent beside the place where they belong, compared there by size and SHA-256, and moved only then."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable

from device_agents.android.shell_v2 import LONGEST_SCRIPT
from device_agents.android.transport import FILE_TIMEOUT_S, ConnectionLost, Transport, words
from device_agents.base import DeviceError

IS_FOLDER, DIFFERS, NOT_PLACED = 41, 42, 43
ATTEMPTS = 2
# Android before 8 has no sha256sum: there the size alone is compared. stat came with Android 6.
PLACE = """
sent={sent}; place={place}
if [ -d "$place" ]; then rm -f "$sent"; exit {is_folder}; fi
sum=$(sha256sum <"$sent" 2>/dev/null); sum=${{sum%% *}}
size=$(stat -c %s "$sent")
if [ "$size" != {size} ] || [ "${{sum:-{sha256}}}" != {sha256} ]; then
    echo "${{size:-no file}} ${{sum:-}}"; rm -f "$sent"; exit {differs}
fi
chmod {mode:o} "$sent" && mv -f "$sent" "$place" && exit 0
rm -f "$sent"; exit {not_placed}
"""


class VerifiedTransport(Transport):
    """A transport whose `push` does not return before the device has the very bytes."""

    serial: str

    def __init__(self, serial: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.serial = serial
        self._clock = clock
        self._unfinished = f".{secrets.token_hex(6)}.part"  # the same for each push, so that one cut off leaves no more than one file

    @abstractmethod
    def _send(self, data: bytes, sent: str, path: str, timeout_s: float) -> None:
        """Write a file `sent` on the device, unproved; raises what `push` does, about the file `path` that it shall become."""

    def push(self, data: bytes, path: str, mode: int = 0o644, timeout_s: float = FILE_TIMEOUT_S) -> None:
        """Write a file, in place of one that is there and only once it is complete; missing folders on the way are made.

        Raises:
            ConnectionLost, Unauthorised, DeviceUnreachable: as `shell`.
            DeviceError: the device did not take the file (no space, not writable), or has other content than was sent, twice.
        """
        self._check_path(path)
        sent = posixpath.join(posixpath.dirname(path), self._unfinished)
        sha256 = hashlib.sha256(data).hexdigest()
        script = PLACE.format(
            sent=words([sent]), place=words([path]), size=len(data), sha256=sha256, mode=mode,
            is_folder=IS_FOLDER, differs=DIFFERS, not_placed=NOT_PLACED,
        )  # fmt: skip
        deadline = self._clock() + timeout_s
        has = ""
        for _ in range(ATTEMPTS):
            self._send(data, sent, path, self._left(deadline, path))
            ended = self.shell(script, self._left(deadline, path))
            has = ended.text.strip()
            if ended.exit_code == 0:
                return
            if ended.exit_code == IS_FOLDER:
                raise DeviceError(f"{path!r} on device {self.serial!r} is a folder; expected the name of a file")
            if ended.exit_code != DIFFERS:
                raise self.not_written(path, len(data), ended.stderr.decode(errors="replace").strip() or f"exit code {ended.exit_code}")
        raise DeviceError(
            f"{path!r} on device {self.serial!r} differs from what was sent, {ATTEMPTS} times: {len(data)} bytes with SHA-256 {sha256} were sent, "
            f"the device has {has[:100] or 'nothing'}; check the cable, or send by another transport"
        )

    def not_written(self, path: str, size: int, reason: str) -> DeviceError:
        """Return the error for a file that the device did not take."""
        reason = " ".join(reason.split())
        if "No space left" in reason:
            return DeviceError(
                f"device {self.serial!r} has no space left for {path!r} of {size} bytes; remove files from {posixpath.dirname(path)!r} there"
            )
        return DeviceError(
            f"{path!r} cannot be written on device {self.serial!r} ({reason[-200:]}); expected a folder that its shell may write to (/data/local/tmp)"
        )

    def _left(self, deadline: float, path: str) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise ConnectionLost(f"device {self.serial!r} did not take {path!r} in time; check the connection, or allow it more time")
        return left

    def _check_path(self, path: str) -> None:
        """Raise where a path cannot be meant: sync and shell would not read it alike."""
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise DeviceError(f"{path!r} is no path of a file on device {self.serial!r}; expected one that begins with '/', as /data/local/tmp/model")

    def _check_script(self, script: str, longest: int = LONGEST_SCRIPT) -> bytes:
        """Return a script as a device can take it."""
        encoded = script.encode(errors="surrogateescape")
        if b"\0" in encoded:
            raise DeviceError(
                f"a script for device {self.serial!r} holds a NUL character: {script[:80]!r}; names of files and options cannot have one"
            )
        if len(encoded) > longest:
            raise DeviceError(f"a script of {len(encoded)} bytes is too long for device {self.serial!r}, which takes {longest}; push it as a file")
        return encoded
