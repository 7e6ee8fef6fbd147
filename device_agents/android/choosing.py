"""Which attached phone a device means: the one at its address, or else the only one of its model. Never "the first one"."""

from __future__ import annotations

import contextlib
from fnmatch import fnmatchcase
from pathlib import Path

from device_agents.android import discovery
from device_agents.android.discovery import Attached, Found
from device_agents.android.transport import Transport, Unauthorised
from device_agents.base import DeviceError, DeviceUnreachable

READY, UNAUTHORISED = "device", "unauthorized"


def open_phone(device: str, address: str | None, model: str | None, key: Path | None, found: Found | None = None) -> Transport:
    """Return the transport to a device's phone.

    Raises:
        Unauthorised: the only phone attached does not accept this computer yet.
        DeviceUnreachable: no phone fits, or several do.
        DeviceError: neither an address nor a model is given, or the address is none.
    """
    if address is not None:
        return discovery.open_transport(address, key)
    if model is None:
        raise DeviceError(f"device {device!r} has neither address nor model; set `address` to the phone's serial or tcp:HOST:PORT, or `model`")
    found = found or discovery.attached()
    fitting: list[tuple[Attached, Transport]] = []
    others = []
    for attached in found.devices:
        own = ""
        with contextlib.suppress(DeviceError):
            transport = discovery.open_transport(attached.address, key)
            own = discovery.model(transport)
            if is_of_model(own, model):
                fitting.append((attached, transport))
                continue
            transport.close()
        others.append(f"{attached.serial} ({own or attached.state})")
    if len(fitting) > 1:
        for _, transport in fitting:
            transport.close()
        serials = " and ".join(attached.serial for attached, _ in fitting)
        raise DeviceUnreachable(f"device {device!r} is any phone of model {model!r}, and {serials} are; set `address` to the serial of one")
    if fitting:
        return fitting[0][1]
    waiting = [attached.serial for attached in found.devices if attached.state == UNAUTHORISED]
    if waiting:
        raise Unauthorised(f"phone {waiting[0]!r} does not accept this computer yet; unlock it and allow USB debugging, for device {device!r}")
    where = "".join(f"; {reason}" for reason in found.not_looked)
    raise DeviceUnreachable(
        f"no phone of model {model!r} is attached for device {device!r}; attached are: {', '.join(others) or 'none'}; plug it in, with "
        f"USB debugging on, or set `address`{where}"
    )


def is_of_model(own: str, pattern: str) -> bool:
    """Return whether "manufacturer model" is of a model, in which * stands for any text."""
    _, _, name = own.partition(" ")
    return any(fnmatchcase(text.lower(), pattern.lower()) for text in (own, name) if text)
