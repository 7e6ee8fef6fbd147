"""Android devices without an adb server: over USB, or over the network where the phone listens (`adb tcpip 5555`, or set so in its options)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from device_agents.android import keys, shell_v2
from device_agents.android.transport import COMMAND_TIMEOUT_S, FILE_TIMEOUT_S, ConnectionLost, Finished, Unauthorised
from device_agents.android.verified_transport import VerifiedTransport
from device_agents.base import DeviceError, DeviceUnreachable

CONNECT_TIMEOUT_S = 10.0
ACCEPT_TIMEOUT_S = 10.0  # for a person to accept this computer on the phone's screen
OLD_SERVICES = (b"exec", b"shell")  # devices before Android 7: without a terminal if they can, else with one


class AdbShellTransport(VerifiedTransport):
    """Speaks to one device through the package adb-shell; the connection is opened by the first call.

    Raises (from every call):
        RuntimeMissing: adb-shell, or for USB libusb1, cannot be imported.
    """

    def __init__(self, serial: str, link: Callable[[], Any], key: Path | None = None, accept_timeout_s: float = ACCEPT_TIMEOUT_S) -> None:
        super().__init__(serial)
        self._link = link
        self._key = key
        self._accept_timeout_s = accept_timeout_s
        self._device: Any = None
        self._services: tuple[bytes, ...] = (shell_v2.SERVICE, *OLD_SERVICES)  # the first is used; those that the device refuses go
        self._lock = threading.RLock()

    @classmethod
    def tcp(cls, host: str, port: int, key: Path | None = None, accept_timeout_s: float = ACCEPT_TIMEOUT_S) -> AdbShellTransport:
        """Return the transport to a device on the network."""

        def link() -> Any:
            from device_agents.android import adb_shell_device

            return adb_shell_device.tcp(host, port)

        return cls(f"{host}:{port}", link, key, accept_timeout_s)

    @classmethod
    def usb(cls, serial: str, key: Path | None = None, accept_timeout_s: float = ACCEPT_TIMEOUT_S) -> AdbShellTransport:
        """Return the transport to a device on a cable."""

        def link() -> Any:
            from device_agents.android import adb_shell_device

            try:
                return adb_shell_device.usb(serial)
            except ImportError as error:
                raise keys.not_installed(error, "adb-shell[usb]", "usb") from None
            except adb_shell_device.SeveralDevices as error:
                raise DeviceUnreachable(
                    f"several USB devices have the serial {serial!r}: {error}; unplug one, or use an adb server and name a port, as server:usb:1-2"
                ) from None

        return cls(serial, link, key, accept_timeout_s)

    def shell(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Run a script in the device's shell and return how it ended; before Android 7 its stdout holds its stderr too."""
        self._check_script(script)
        with self._connected(timeout_s) as device:
            ended = self._ask(device, script, timeout_s)
            if ended is None:
                raise ConnectionResetError("a command was cut off")
            return ended

    def pull(self, path: str, timeout_s: float = FILE_TIMEOUT_S) -> bytes:
        """Return what is in a file."""
        self._check_path(path)
        stream = BytesIO()
        with self._connected(timeout_s, path, "be read") as device:
            device.pull(path, stream, transport_timeout_s=timeout_s, read_timeout_s=timeout_s)
        return stream.getvalue()

    def close(self) -> None:
        """End the connection; the next call opens it again."""
        with self._lock:
            device, self._device = self._device, None
            if device is not None:
                with contextlib.suppress(Exception):  # whatever a broken connection says when it is closed
                    device.close()

    def _send(self, data: bytes, sent: str, path: str, timeout_s: float) -> None:
        with self._connected(timeout_s, path, "be written", len(data)) as device:
            device.push(BytesIO(data), sent, transport_timeout_s=timeout_s, read_timeout_s=timeout_s)

    def _ask(self, device: Any, script: str, timeout_s: float) -> Finished | None:
        """Return how a script ended, None if it was cut off; services that the device refuses are not asked for again."""
        from device_agents.android.adb_shell_device import ServiceRefused

        while self._services:
            service = self._services[0]
            marked = None if service == shell_v2.SERVICE else shell_v2.marked(script)
            command = self._check_script(marked.script if marked else script, min(shell_v2.LONGEST_SCRIPT, device.longest_service - len(service) - 1))
            try:
                answer = device.ask(service, command, timeout_s)
            except ServiceRefused:
                self._services = self._services[1:]
                continue
            return marked.finished(answer) if marked else shell_v2.finished(answer)
        self._services = (shell_v2.SERVICE, *OLD_SERVICES)
        raise DeviceUnreachable(f"device {self.serial!r} refuses every shell service; restart it, or its USB debugging")

    @contextlib.contextmanager
    def _connected(self, timeout_s: float, path: str = "", what: str = "", size: int = 0) -> Iterator[Any]:
        """Give the device within the time of one call; whatever goes wrong ends the connection and is told in our words."""
        try:
            from device_agents.android import adb_shell_device as client
        except ImportError as error:
            raise keys.not_installed(error) from None
        with self._lock:
            try:
                if self._device is None:
                    self._device = self._connect(client, timeout_s)
                self._device.link.start(timeout_s)
                yield self._device
            except client.REFUSED as error:
                self.close()
                reason = said(error)
                if what == "be written":
                    raise self.not_written(path, size, reason) from None
                raise DeviceError(f"{path!r} on device {self.serial!r} cannot {what}: {reason}; expected a file that its shell may read") from None
            except client.TIMED_OUT:
                self.close()
                raise ConnectionLost(
                    f"device {self.serial!r} did not answer within {timeout_s:g} s; check that it is awake and connected, or allow it more time"
                ) from None
            except DeviceError:
                self.close()
                raise
            except client.BROKEN as error:
                self.close()
                raise ConnectionLost(f"the connection to device {self.serial!r} broke ({said(error)}); check the cable or the network") from None
            except BaseException:
                self.close()
                raise

    def _connect(self, client: Any, timeout_s: float) -> Any:
        """Return the device, connected and authorised."""
        signer = keys.signer(self._key)
        asked = False

        def asks(_: object) -> None:
            nonlocal asked
            asked = True
            link.start(self._accept_timeout_s)

        timeout_s = min(timeout_s, CONNECT_TIMEOUT_S)
        link: Any = None
        try:
            link = self._link()
            device = client.Device(link)
            link.start(timeout_s)
            device.connect([signer], timeout_s, self._accept_timeout_s, timeout_s + self._accept_timeout_s, asks)
        except Exception as error:
            if not isinstance(error, client.BROKEN) and not type(error).__name__.startswith("USBError"):  # which are Exceptions of libusb's own
                raise
            if link is not None:
                with contextlib.suppress(Exception):
                    link.close()
            if asked or isinstance(error, client.NOT_TRUSTED):
                raise self._not_authorised(signer) from None
            raise self._unreachable(error) from None
        return device

    def _not_authorised(self, signer: keys.Signer) -> Unauthorised:
        return Unauthorised(
            f"device {self.serial!r} does not accept the key {str(signer.path)!r}; unlock it, accept 'Allow USB debugging' with 'Always allow' "
            "on its screen, and try again"
        )

    def _unreachable(self, error: Exception) -> Exception:
        if isinstance(error, DeviceError):
            return error
        kind, reason = type(error).__name__, said(error)
        if kind == "USBErrorBusy":
            return DeviceUnreachable(
                f"device {self.serial!r} is in use, as by an adb server; stop that with `adb kill-server`, or use server:{self.serial}"
            )
        if kind == "USBErrorAccess":
            return DeviceUnreachable(
                f"this user may not open the USB device {self.serial!r}; add a udev rule for it (Debian: android-sdk-platform-tools-common)"
            )
        if kind == "UsbDeviceNotFoundError":
            return DeviceUnreachable(f"no USB device with the serial {self.serial!r} has USB debugging on; plug it in, unlock it, and switch that on")
        if "STLS" in reason:
            return DeviceUnreachable(
                f"device {self.serial!r} wants wireless debugging with pairing; pair it with `adb pair` and `adb connect` and use server:SERIAL, "
                "or run `adb tcpip 5555` once over USB"
            )
        return ConnectionLost(f"device {self.serial!r} cannot be reached ({reason}); check that it is on, that USB debugging is on, and its address")


def said(error: BaseException) -> str:
    """Return what an error says, in one line."""
    first = error.args[0] if error.args else ""
    if isinstance(error, OSError) and error.strerror:
        first = error.strerror
    text = bytes(first).decode(errors="replace") if isinstance(first, (bytes, bytearray)) else str(first)
    return " ".join(text.split()).removeprefix("Command failed: ")[:300] or type(error).__name__
