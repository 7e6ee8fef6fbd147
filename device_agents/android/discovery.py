"""Which Android devices are attached, and the transport to one of them by its address. Never "the first device"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from device_agents.android import adb_server
from device_agents.android.adb_server_transport import AdbServerTransport
from device_agents.android.adb_shell_transport import AdbShellTransport
from device_agents.android.transport import Transport
from device_agents.base import DeviceError, DeviceUnreachable

DEFAULT_PORT = 5555
FORMS = "tcp:HOST:PORT, usb:SERIAL, server:SERIAL or a serial"


@dataclass(frozen=True)
class Attached:
    """A device that was found. `state` is device, unauthorized, offline, or what else its finder says; `address` reaches it."""

    serial: str
    state: str
    address: str
    description: str


@dataclass(frozen=True)
class Found:
    """The devices attached, and where could not be looked and why."""

    devices: tuple[Attached, ...]
    not_looked: tuple[str, ...] = ()


def attached(server: adb_server.Server | None = None) -> Found:
    """Return the devices of the adb server, if one runs, and those on a cable, if libusb is installed; no server is started.

    What a server holds is not listed a second time as a device on a cable.
    """
    devices, not_looked = [], []
    try:
        listed = (server or adb_server.server()).devices()
        devices += [Attached(found.serial, found.state, f"server:{found.serial}", adb_server.described(found)) for found in listed]
    except adb_server.NoServer as error:
        not_looked.append(str(error))
    try:
        from device_agents.android.adb_shell_device import usb_devices

        held = {device.serial for device in devices}
        devices += [
            Attached(serial, state, f"usb:{serial}", f"{serial} (port {port})") for serial, state, port in usb_devices() if serial not in held
        ]
    except (ImportError, OSError) as error:
        not_looked.append(f"cables were not looked at, which needs libusb ({error}); install it with pip install 'elastic-latency[usb]'")
    return Found(tuple(devices), tuple(not_looked))


def model(transport: Transport) -> str:
    """Return manufacturer and model as the device says them, empty where it does not."""
    text = transport.run(["sh", "-c", "getprop ro.product.manufacturer; getprop ro.product.model"])
    return " ".join(text.split())


def open_transport(address: str, key: Path | None = None, adb: str = "adb", server: adb_server.Server | None = None) -> Transport:
    """Return the transport to a device by its address: tcp:HOST:PORT, usb:SERIAL, server:SERIAL, or a serial, of which is found out where it is.

    `key` is a private key in place of the user's own; an adb server has keys of its own.

    Raises:
        DeviceUnreachable: a serial that no device has, or that several have, which are named.
        DeviceError: no address.
    """
    kind, _, rest = address.partition(":")
    if kind == "tcp" and rest:
        return AdbShellTransport.tcp(*_host_and_port(address, rest), key)
    if kind == "usb" and rest:
        return AdbShellTransport.usb(rest, key)
    if kind == "server" and rest:
        return AdbServerTransport(rest, adb, server)
    refuse_no_address(address)
    return _found(address, key, adb, server)


def refuse_no_address(address: str) -> None:
    """Do nothing where a text can be an address.

    Raises:
        DeviceError: it cannot.
    """
    kind, _, rest = address.partition(":")
    if kind == "tcp" and rest:
        _host_and_port(address, rest)
    elif not (kind in ("usb", "server") and rest) and (
        kind in ("tcp", "usb", "server") or not address.isprintable() or not address or " " in address
    ):
        raise DeviceError(f"{address!r} is no address of an Android device; expected {FORMS}")


def _found(serial: str, key: Path | None, adb: str, server: adb_server.Server | None) -> Transport:
    found = attached(server)
    matching = [device for device in found.devices if device.serial == serial]
    if len(matching) > 1:
        raise DeviceUnreachable(
            f"several attached devices have the serial {serial!r}: {' and '.join(device.description for device in matching)}; "
            "unplug one, or name one by its port with an adb server, as server:usb:1-2"
        )
    if matching:
        return open_transport(matching[0].address, key, adb, server)
    if re.fullmatch(r"[^:]+:\d+", serial):
        return open_transport(f"tcp:{serial}", key, adb, server)
    others = ", ".join(f"{device.serial} ({device.state})" for device in found.devices) or "none"
    where = "".join(f"; {reason}" for reason in found.not_looked)
    raise DeviceUnreachable(f"no Android device with the serial {serial!r} is attached; attached are: {others}{where}")


def _host_and_port(address: str, text: str) -> tuple[str, int]:
    """Return the two parts of HOST:PORT; an IPv6 address stands in brackets."""
    matched = re.fullmatch(r"(?:\[([^\]\s]+)\]|([^:\s\[\]]+))(?::(\d{1,5}))?", text)
    port = int(matched[3] or DEFAULT_PORT) if matched else 0
    if not matched or not 0 < port < 65536:
        raise DeviceError(f"{address!r} is no address of an Android device on the network; expected tcp:HOST:PORT, as tcp:192.168.1.20:5555")
    return matched[1] or matched[2], port
