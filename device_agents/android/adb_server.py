"""The adb server that may run on this computer: where it listens, its version, and the devices it holds. It is asked, never started."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from device_agents.base import DeviceUnreachable

TIMEOUT_S = 5.0


class NoServer(DeviceUnreachable):
    """No adb server answers."""


@dataclass(frozen=True)
class Listed:
    """A device as the server lists it: `state` is device, unauthorized, offline or another word of its; `details` such as usb, model."""

    serial: str
    state: str
    details: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """Where a server listens."""

    host: str
    port: int

    def version(self) -> int:
        """Return the version of what it speaks, 41 for the releases since 2018.

        Raises:
            NoServer: none answers there.
        """
        answer = self._ask("host:version")
        try:
            return int(answer, 16)
        except ValueError:
            raise self._is_none(f"it answers {answer[:20]!r}") from None

    def devices(self) -> list[Listed]:
        """Return the devices it holds.

        Raises:
            NoServer: none answers there.
        """
        return [found for line in self._ask("host:devices-l").splitlines() if (found := listed(line)) is not None]

    def _ask(self, service: str) -> str:
        try:
            with socket.create_connection((self.host, self.port), timeout=TIMEOUT_S) as connection, connection.makefile("rb") as answer:
                connection.sendall(f"{len(service):04x}{service}".encode())
                status = answer.read(4)
                text = answer.read(int(answer.read(4) or b"0", 16)).decode(errors="replace")
        except (OSError, ValueError) as error:
            raise self._is_none(getattr(error, "strerror", None) or str(error)) from None
        if status != b"OKAY":
            raise self._is_none(f"it answers {text or status.decode(errors='replace')!r}")
        return text

    def _is_none(self, reason: str) -> NoServer:
        return NoServer(
            f"no adb server answers at {self.host}:{self.port} ({reason}); start it with `adb start-server`, or use usb:SERIAL or tcp:HOST:PORT"
        )


def server(environment: Mapping[str, str] | None = None) -> Server:
    """Return where the user's server listens, as `adb` finds it: by ADB_SERVER_SOCKET, ANDROID_ADB_SERVER_ADDRESS and _PORT, else port 5037."""
    values = os.environ if environment is None else environment
    kind, _, spec = values.get("ADB_SERVER_SOCKET", "").partition(":")
    host, _, port = spec.rpartition(":") if kind == "tcp" else ("", "", "")
    port = port or values.get("ANDROID_ADB_SERVER_PORT", "")
    host = host or values.get("ANDROID_ADB_SERVER_ADDRESS", "")
    return Server(host or "127.0.0.1", int(port) if port.isdigit() else 5037)


def listed(line: str) -> Listed | None:
    """Return the device in one line of `devices -l`: its serial, its state (which may be several words), and details as name:value."""
    serial, *words = line.split() or [""]
    details = [word for word in words if ":" in word and not word.startswith(("(", "http"))]
    state = " ".join(word for word in words if word not in details)
    return Listed(serial, state, dict(word.split(":", 1) for word in details)) if serial and state else None


def is_called(device: Listed, name: str) -> bool:
    """Return whether `adb -s NAME` means a device: its serial, its port, or its product, model or device name."""
    names = {device.serial, *(f"{key}:{value}" for key, value in device.details.items() if key in ("product", "model", "device", "usb"))}
    return name in names


def described(device: Listed) -> str:
    """Return what tells a device from another of the same serial."""
    details = [f"{key}:{device.details[key]}" for key in ("usb", "model", "transport_id") if key in device.details]
    return f"{device.serial} ({', '.join([device.state, *details])})"
