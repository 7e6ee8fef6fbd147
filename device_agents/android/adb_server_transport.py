"""Android devices through the user's `adb` and the server it talks to, which stays the owner of the cable."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from device_agents.android import adb_server, shell_v2
from device_agents.android.transport import COMMAND_TIMEOUT_S, FILE_TIMEOUT_S, ConnectionLost, Finished, Unauthorised, words
from device_agents.android.verified_transport import VerifiedTransport
from device_agents.base import DeviceError, DeviceUnreachable

LONGEST_SCRIPT = 60_000  # bytes: a client tells the server the length of what it wants in four hexadecimal digits
PAUSE_S = 0.1
# What adb says before it has done anything, at the begin of its output; whatever else a script wrote is not mistaken for it.
STATE = re.compile(
    r"\s*(?:adb: )?error: (?:failed to get feature set: )?"
    r"(device offline|device unauthorized|device still \w+|device '[^\n]*' not found|more than one \S+|(?:insufficient|no) permissions[^\n]*)"
)
# States that a device on the network has for a moment after its connection broke, and how long they may last before they are believed.
OFFLINE_S = 5.0
PASSING_S = {"offline": OFFLINE_S, "still": OFFLINE_S, "unauthorized": 1.0}
RECONNECT_S = 1.0
NETWORK = re.compile(
    r"(?!(?:usb|transport_id|product|model|device):)[^:\s]+:\d+|\[[^\]]+\]:\d+"
)  # serials of devices on the network; ports of cables are usb:1-2
# What a device itself has said of a file, in the words of its daemon or the C library; all else may be the connection.
REFUSED = re.compile(r": remote (.+)", re.DOTALL)
NOT_THERE = re.compile(r"(No such file or directory|Permission denied|Not a directory|File name too long|does not exist)\s*$")


class AdbServerTransport(VerifiedTransport):
    """Speaks to one device through `adb -s SERIAL`; the server must be running, and must be of this program's version.

    `serial` may be whatever `adb -s` takes, so also usb:1-2, the port of a cable, where two devices have one serial.
    """

    def __init__(
        self, serial: str, program: str = "adb", server: adb_server.Server | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(serial, clock)
        self._program = program
        self._server = server or adb_server.server()
        self._version_checked = False

    def shell(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Run a script in the device's shell and return how it ended; before Android 7 its stdout holds its stderr too.

        `adb shell` ends with 0 where the connection breaks, so the script says its end itself.
        """
        self._check_script(script)
        marked = shell_v2.marked(script)
        self._check_script(marked.script, LONGEST_SCRIPT)
        result = self._adb(["shell", marked.script], timeout_s, marked.marker)
        ended = marked.finished(result.stdout, result.stderr)
        if ended is None:
            raise self._failed(result)
        return ended

    def pull(self, path: str, timeout_s: float = FILE_TIMEOUT_S) -> bytes:
        """Return what is in a file."""
        self._check_path(path)
        deadline = self._clock() + timeout_s
        if self.shell(f"[ -d {words([path])} ]", timeout_s).exit_code == 0:  # adb would copy all that is in it
            raise DeviceError(f"{path!r} on device {self.serial!r} cannot be read: it is a folder; expected a file")
        with tempfile.TemporaryDirectory(prefix="elastic-latency-") as folder:
            copy = Path(folder, "pulled")
            result = self._adb(["pull", path, str(copy)], self._left(deadline, path))
            if result.returncode == 0 and copy.is_file():
                return copy.read_bytes()
        text = said(result)
        if REFUSED.search(text) or NOT_THERE.search(text):
            reason = text.removeprefix("adb: error: ")
            raise DeviceError(f"{path!r} on device {self.serial!r} cannot be read: {reason[-200:]}; expected a file that its shell may read")
        raise self._failed(result)

    def close(self) -> None:
        """Do nothing: the server holds the connection."""

    def _send(self, data: bytes, sent: str, path: str, timeout_s: float) -> None:
        with tempfile.TemporaryDirectory(prefix="elastic-latency-") as folder:
            copy = Path(folder, "pushed")
            copy.write_bytes(data)
            result = self._adb(["push", str(copy), sent], timeout_s)
        if result.returncode == 0:
            return
        refused = REFUSED.search(said(result))
        if refused:
            raise self.not_written(path, len(data), " ".join(refused[1].splitlines()[0].split()))
        raise self._failed(result)

    def _adb(self, arguments: list[str], timeout_s: float, proof: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Return how adb ended; while the server says that the device is not there yet, which is before anything was done, it is asked again.

        `proof` in its output means that something was done.
        """
        start = self._clock()
        deadline = start + timeout_s
        connected = start - RECONNECT_S
        while True:
            self._check_server()
            result = self._run(["-s", self.serial, *arguments], self._left(deadline, arguments[-1]), timeout_s)
            state = "" if proof and proof in result.stdout else state_told(result)
            if self._clock() - start + PAUSE_S > min(timeout_s, self._passing_s(state)):
                return result
            if NETWORK.fullmatch(self.serial) and "authoriz" not in state and self._clock() - connected >= RECONNECT_S:
                connected = self._clock()
                for command in ("disconnect", "connect"):  # a server forgets a device of the network that was away, or waits ten seconds
                    self._run([command, self.serial], self._left(deadline, arguments[-1]), timeout_s)
            time.sleep(PAUSE_S)

    def _passing_s(self, state: str) -> float:
        """Return how long a state that adb told may yet pass."""
        if "not found" in state and NETWORK.fullmatch(self.serial):
            return OFFLINE_S
        return max((seconds for word, seconds in PASSING_S.items() if word in state), default=0.0)

    def _run(self, arguments: list[str], left_s: float, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        # An address in figures keeps the program from starting a server of its own, should this one end now.
        command = [self._program, "-H", self._server.host, "-P", str(self._server.port), *arguments]
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=left_s, check=False)
        except subprocess.TimeoutExpired:
            raise ConnectionLost(
                f"device {self.serial!r} did not answer within {timeout_s:g} s; check that it is awake and connected, or allow it more time"
            ) from None
        except OSError as error:
            raise DeviceUnreachable(
                f"the program {self._program!r} cannot be run ({error.strerror}); install it (Debian: apt-get install adb), or use usb:SERIAL or "
                "tcp:HOST:PORT, which need none"
            ) from None

    def _check_server(self) -> None:
        """Raise where no server runs, or one that this program would kill because it is of another version."""
        version = self._server.version()
        if self._version_checked:
            return
        own = re.search(rb"version \d+\.\d+\.(\d+)", self._run(["version"], COMMAND_TIMEOUT_S, COMMAND_TIMEOUT_S).stdout)
        if own and int(own[1]) != version:
            raise DeviceUnreachable(
                f"{self._program!r} speaks version {int(own[1])} of adb and the server at {self._server.host}:{self._server.port} version {version}, "
                "which it would kill; name the adb that started the server, or stop that with `adb kill-server`"
            )
        self._version_checked = True

    def _failed(self, result: subprocess.CompletedProcess[bytes]) -> DeviceUnreachable:
        """Return the error for an adb that did not do what it was asked, by what it says."""
        state = state_told(result)
        if "authoriz" in state:
            return Unauthorised(
                f"device {self.serial!r} does not accept the key of this computer's adb server; unlock it, accept 'Allow USB debugging' with "
                "'Always allow' on its screen, and try again"
            )
        if "more than one" in state:
            return DeviceUnreachable(f"several devices are called {self.serial!r}: {self._namesakes()}; name one by its port, as server:usb:1-2")
        if "not found" in state and NETWORK.fullmatch(self.serial):
            return ConnectionLost(
                f"the adb server does not reach device {self.serial!r}; check that it is on, that USB debugging is on, and its address"
            )
        if "not found" in state:
            attached = ", ".join(f"{found.serial} ({found.state})" for found in self._server.devices()) or "none"
            return DeviceUnreachable(
                f"the adb server has no device {self.serial!r}; attached are: {attached}; plug it in, or run `adb connect HOST:PORT`"
            )
        if "permissions" in state:
            return DeviceUnreachable(
                f"the adb server may not open device {self.serial!r} ({state}); add a udev rule for it and start the server again"
            )
        return ConnectionLost(
            f"the connection to device {self.serial!r} broke ({state or said(result) or 'adb says nothing'}); check the cable or the network"
        )

    def _namesakes(self) -> str:
        return " and ".join(adb_server.described(found) for found in self._server.devices() if adb_server.is_called(found, self.serial))


def said(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return what adb itself wrote of an error, in one line; push and pull write it to stdout, between reports of progress."""
    lines = (result.stderr + b"\n" + result.stdout).decode(errors="replace").splitlines()
    found = [line.strip() for line in lines if "error:" in line or "adb: " in line]
    return " ".join(found or [result.stderr.decode(errors="replace").strip()])[-400:].removeprefix("error: ")


def state_told(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return what adb says of the device's state where that kept it from doing anything, empty if it was kept by nothing."""
    found = STATE.match((result.stderr or result.stdout).decode(errors="replace")) if result.returncode else None
    return found[1] if found else ""
