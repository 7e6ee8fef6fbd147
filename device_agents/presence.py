"""Which devices are attached just now, as far as that can be told at once: no device is asked, no server started, nothing set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from device_agents.devices import Device


@dataclass(frozen=True)
class Presence:
    """Whether a device is there (None: not asked), and what was found, in a few words."""

    there: bool | None
    text: str


def presence(devices: Iterable[Device]) -> dict[str, Presence]:
    """Return device name → what is known of it now."""
    found = {}
    for device in devices:
        look = _LOOKS.get(device.transport)
        found[device.name] = Presence(None, "not asked") if look is None else look(device)
    return found


def _local(device: Device) -> Presence:
    return Presence(True, "this machine")


def _simulated(device: Device) -> Presence:
    return Presence(True, "needs no hardware")


def _ssh(device: Device) -> Presence:
    return Presence(None, f"host {device.settings.get('host', device.name)}: not asked")


def _cuda(device: Device) -> Presence:
    from device_agents.on_device.nvml import Gpu, GpuNotThere, chosen_gpu
    from device_agents.on_device.runtimes import RuntimeNotInstalled

    try:
        return Presence(True, Gpu(chosen_gpu(str(device.settings.get("gpu", "")))).name or "a GPU without a name")
    except GpuNotThere:
        return Presence(False, "no GPU found")
    except RuntimeNotInstalled:
        return Presence(None, "the package nvidia-ml-py is missing")


_LOOKS: dict[str, Callable[[Device], Presence]] = {"local": _local, "simulated": _simulated, "ssh": _ssh, "cuda": _cuda}
