"""What reaching an Android device means: commands with exit codes, files verified after they were sent, and time-outs on all of it."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from device_agents.base import DeviceError, DeviceUnreachable

COMMAND_TIMEOUT_S = 20.0
FILE_TIMEOUT_S = 120.0


class ConnectionLost(DeviceUnreachable):
    """The connection broke, or did not answer in time; the device may be reached again later."""


class Unauthorised(DeviceUnreachable):
    """The device does not accept this computer's key."""


class CommandFailed(DeviceError):
    """A command ended with another exit code than 0."""


@dataclass(frozen=True)
class Finished:
    """How a command ended on the device."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """What it wrote to stdout, as text."""
        return self.stdout.decode(errors="replace")


class Transport(ABC):
    """A connection to one device, by its serial; a lost one is opened again by the next call."""

    serial: str

    @abstractmethod
    def shell(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Run a script in the device's shell and return how it ended. Names in it come from `words`, never from plain text.

        Raises:
            ConnectionLost, Unauthorised, DeviceUnreachable: the device did not take it, or did not answer in time.
        """

    @abstractmethod
    def push(self, data: bytes, path: str, mode: int = 0o644, timeout_s: float = FILE_TIMEOUT_S) -> None:
        """Write a file, in place of one that is there; its size and SHA-256 are read back on the device.

        Raises:
            ConnectionLost, Unauthorised, DeviceUnreachable: as `shell`.
            DeviceError: the device did not take the file (no space, not writable), or has other content than was sent.
        """

    @abstractmethod
    def pull(self, path: str, timeout_s: float = FILE_TIMEOUT_S) -> bytes:
        """Return what is in a file.

        Raises:
            ConnectionLost, Unauthorised, DeviceUnreachable: as `shell`.
            DeviceError: there is no such file, or it cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """End the connection."""

    def run(self, command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Return what a command writes to stdout.

        Raises:
            CommandFailed: its exit code is not 0.
            ConnectionLost, Unauthorised, DeviceUnreachable: as `shell`.
        """
        finished = self.shell(words(command), timeout_s)
        if finished.exit_code:
            said = " ".join((finished.stderr.decode(errors="replace").strip() or finished.text).split())
            raise CommandFailed(
                f"{command[0]!r} on device {self.serial!r} ended with exit code {finished.exit_code}: {said[-300:] or 'it said nothing'}"
            )
        return finished.text


def words(command: Sequence[str]) -> str:
    """Return a command's words quoted for the device's shell, so that none of them is read as anything but a word."""
    return shlex.join(command)
