"""Which devices are attached just now, as far as that can be told at once: none is asked, no server started, nothing set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from device_agents.devices import Device

if TYPE_CHECKING:
    from device_agents.android.discovery import Attached, Found


@dataclass(frozen=True)
class Presence:
    """Whether a device is there (None: not known), and what was found, in a few words."""

    there: bool | None
    text: str


@dataclass(frozen=True)
class Presences:
    """Device name → what is known of it now; `notes` say where could not be looked, and why."""

    found: Mapping[str, Presence]
    notes: tuple[str, ...]


def presence(devices: Iterable[Device]) -> Presences:
    """Return what is known now of these devices."""
    look = _Look()
    found = {device.name: look.at(device) for device in devices}
    return Presences(found, look.notes)


class _Look:
    """One look around: phones are looked for once, and only if there is a device that is one."""

    notes: tuple[str, ...] = ()

    def at(self, device: Device) -> Presence:
        looks = {"local": self._local, "simulated": self._simulated, "ssh": self._ssh, "cuda": self._cuda, "adb": self._adb}
        look = looks.get(device.transport)
        return Presence(None, "not asked") if look is None else look(device)

    def _local(self, device: Device) -> Presence:
        return Presence(True, "this machine")

    def _simulated(self, device: Device) -> Presence:
        return Presence(True, "needs no hardware")

    def _ssh(self, device: Device) -> Presence:
        return Presence(None, f"host {device.settings.get('host', device.name)}: not asked")

    def _cuda(self, device: Device) -> Presence:
        from device_agents.on_device.nvml import Gpu, GpuNotThere, chosen_gpu
        from device_agents.on_device.runtimes import RuntimeNotInstalled

        try:
            return Presence(True, Gpu(chosen_gpu(str(device.settings.get("gpu", "")))).name or "a GPU without a name")
        except GpuNotThere:
            return Presence(False, "no NVIDIA GPU found")
        except RuntimeNotInstalled:
            return Presence(None, "cannot look: the package nvidia-ml-py is missing")

    @cached_property
    def _phones(self) -> Found:
        from device_agents.android.discovery import attached

        found = attached()
        self.notes = found.not_looked
        return found

    def _adb(self, device: Device) -> Presence:
        address, model = device.settings.get("address"), device.settings.get("model")
        phones = self._phones.devices
        if isinstance(address, str):
            serial = re.sub("^(tcp|usb|server):", "", address)
            matching = [phone for phone in phones if serial in (phone.serial, phone.address)]
            unknown = f"{address}: not asked" if address.startswith("tcp:") or re.search(r":\d+$", serial) else ""
        else:
            matching = [phone for phone in phones if _is_of(phone, str(model or "*"))]
            unnamed = [phone.serial for phone in phones if _model_of(phone) is None]
            unknown = f"perhaps {' or '.join(unnamed)}, which was not asked" if unnamed else ""
        if matching:
            return Presence(any(phone.state == "device" for phone in matching), ", ".join(_told(phone) for phone in matching))
        if unknown or self.notes:
            return Presence(None, unknown or "not found")
        return Presence(False, "not attached")


def _model_of(phone: Attached) -> str | None:
    """Return what an adb server says of a phone's model, where spaces are underscores; None of a phone that no server holds."""
    told = re.search(r"\bmodel:([^\s,)]+)", phone.description)
    return None if told is None else told[1]


def _is_of(phone: Attached, model: str) -> bool:
    told = _model_of(phone)
    return told is not None and fnmatchcase(told.lower(), re.sub(r"[^a-z0-9*?]", "_", model.lower()))


def _told(phone: Attached) -> str:
    return phone.serial if phone.state == "device" else f"{phone.serial}: {phone.state}"
