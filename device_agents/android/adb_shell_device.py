"""adb-shell's device as this project needs it: each call has one deadline, and what adb-shell 0.4.4 overlooks is seen.

It takes a partly sent packet for sent, reads on after the end of a connection until a time-out, drops the daemon's reason when a file is
refused, and waits for a service that the device has refused. Imported only where adb-shell is needed.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from adb_shell import constants, exceptions
from adb_shell.adb_device import AdbDevice
from adb_shell.adb_message import AdbMessage
from adb_shell.hidden_helpers import _AdbTransactionInfo
from adb_shell.transport.base_transport import BaseTransport
from adb_shell.transport.tcp_transport import TcpTransport

CLIENT_ERRORS = tuple(found for found in vars(exceptions).values() if isinstance(found, type) and issubclass(found, Exception))
REFUSED = (exceptions.PushFailedError, exceptions.AdbCommandFailureException)  # the daemon's FAIL, with its reason
NOT_TRUSTED = exceptions.DeviceAuthError
BROKEN: tuple[type[Exception], ...] = (
    *CLIENT_ERRORS,
    OSError,
    LookupError,
    ValueError,
    struct.error,
)  # what leaves a connection that is of no more use
FAIL_HEADER = struct.Struct("<4sI")  # FAIL and how many bytes of reason follow
TIMED_OUT = (exceptions.TcpTimeoutException, exceptions.AdbTimeoutError, TimeoutError)


class ServiceRefused(Exception):
    """The device has no such service."""


class SeveralDevices(Exception):
    """More than one device has the serial."""


class Link(BaseTransport):  # type: ignore[misc]
    """A connection on which nothing lasts longer than until `deadline`, and a packet is sent whole."""

    def __init__(self, inner: BaseTransport, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._is_stream = isinstance(inner, TcpTransport)
        self.deadline = clock()

    def start(self, timeout_s: float) -> None:
        """Allow what comes next so much time."""
        self.deadline = self._clock() + timeout_s

    def _left_s(self, timeout_s: float | None) -> float:
        left = self.deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the time for this call is over")
        # Two milliseconds at least: libusb counts in whole ones, and none means for ever.
        return max(0.002, left if timeout_s is None else min(left, timeout_s))

    def close(self) -> None:
        """End the connection."""
        self._inner.close()

    def connect(self, transport_timeout_s: float | None) -> None:
        """Open the connection; packets are sent at once, which matters as each header goes by itself."""
        self._inner.connect(self._left_s(transport_timeout_s))
        if self._is_stream:
            self._inner._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return up to so many bytes."""
        data: bytes = self._inner.bulk_read(numbytes, self._left_s(transport_timeout_s))
        if not data and self._is_stream:
            raise ConnectionResetError("the device ended the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all of it."""
        left = memoryview(data)
        while left:
            left = left[self._inner.bulk_write(left.tobytes(), self._left_s(transport_timeout_s)) :]
        return len(data)


class Device(AdbDevice):  # type: ignore[misc]
    """One device; `connect` and `ask` are what transports use, next to adb-shell's own push and pull."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, None, None)
        self.link = link
        self._number = 0

    @property
    def longest_service(self) -> int:
        """How many bytes a service's name with its command may have."""
        return int(self._maxdata) - 1

    def ask(self, service: bytes, command: bytes, timeout_s: float) -> bytes:
        """Return all that a service answers.

        Raises:
            ServiceRefused: the device has none of that name.
        """
        answer: bytes = self._service(service, command, timeout_s, timeout_s, timeout_s, decode=False)
        return answer

    def _open(self, destination: bytes, transport_timeout_s: float, read_timeout_s: float, timeout_s: float | None) -> Any:
        with self._local_id_lock:
            self._number = self._number % 0xFFFFFFFF + 1
            opened = _AdbTransactionInfo(self._number, None, transport_timeout_s, read_timeout_s, timeout_s)
        self._io_manager.send(AdbMessage(constants.OPEN, opened.local_id, 0, destination + b"\0"), opened)
        command, opened.remote_id, _, _ = self._io_manager.read([constants.OKAY, constants.CLSE], opened)
        if command == constants.CLSE:
            raise ServiceRefused(destination.partition(b":")[0].decode())
        return opened

    def _filesync_flush(self, adb_info: Any, filesync_info: Any) -> None:
        """Send what is waiting; what the device says in the meantime is kept, and a refusal ends the transfer."""
        sent = bytes(filesync_info.send_buffer[: filesync_info.send_idx])
        self._io_manager.send(AdbMessage(constants.WRTE, adb_info.local_id, adb_info.remote_id, sent), adb_info)
        filesync_info.send_idx = 0
        while True:
            command, data = self._read_until([constants.OKAY, constants.WRTE, constants.CLSE], adb_info)
            if command == constants.WRTE:
                filesync_info.recv_buffer += data
            said = bytes(filesync_info.recv_buffer)
            if said[:4] == constants.FAIL:  # its reason may come in a packet of its own
                if command == constants.CLSE or (len(said) >= FAIL_HEADER.size and len(said) >= FAIL_HEADER.size + FAIL_HEADER.unpack_from(said)[1]):
                    raise exceptions.PushFailedError(said[FAIL_HEADER.size :])
            elif command == constants.OKAY:
                return
            elif command == constants.CLSE:
                raise ConnectionResetError("the device ended the transfer")


def tcp(host: str, port: int) -> Link:
    """Return the way to a device on the network."""
    return Link(TcpTransport(host, port))


def usb(serial: str) -> Link:
    """Return the way to a device on a cable.

    Raises:
        ImportError, OSError: Python's libusb1 or the library itself is not there.
        UsbDeviceNotFoundError: no such device is attached.
        SeveralDevices: more than one has that serial.
    """
    found = [device for device in _attached() if _told(device)[0] == serial]
    if len(found) > 1:
        raise SeveralDevices(" and ".join(f"port {_told(device)[2]}" for device in found))
    if not found:
        raise exceptions.UsbDeviceNotFoundError(serial)
    return Link(found[0])


def usb_devices() -> list[tuple[str, str, str]]:
    """Return serial, state and port of each device on a cable.

    Raises:
        ImportError, OSError: Python's libusb1 or the library itself is not there.
    """
    return [_told(device) for device in _attached()]


def _attached() -> list[Any]:
    from adb_shell.transport.usb_transport import UsbTransport

    return list(UsbTransport.find_all_adb_devices())


def _told(device: Any) -> tuple[str, str, str]:
    bus, *ports = device.port_path
    port = f"{bus}-{'.'.join(str(port) for port in ports)}"
    try:
        return str(device.serial_number), "device", port
    except Exception as error:  # libusb's own, such as USBErrorAccess: which class it is shows only where libusb is installed
        return f"usb:{port}", f"no permissions ({type(error).__name__})", port
