"""Devices by name, from the devices.toml of this package and files of the user's own.

Files are read in this order, and a later one wins: the package's own, `devices.toml` of the current folder (if that is a
file of devices), the one that the environment variable ELASTIC_LATENCY_DEVICES names, and the one given.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from device_agents import ENTRY_POINT_GROUP, TRANSPORTS
from device_agents.base import DeviceAgent, UnknownDevice

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN_FILE = Path(__file__).with_name("devices.toml")
PROJECT_FILE = "devices.toml"  # in the current folder
ENVIRONMENT_VARIABLE = "ELASTIC_LATENCY_DEVICES"

_ALTERNATIVES = (("cores", "cluster"),)  # two ways of saying which cores
# A device's name is also the name of a file, of a schema on a server, and of a resource.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,49}")


class DeviceFileError(ValueError):
    """A file of devices cannot be understood; the text names the file and the device."""


@dataclass(frozen=True)
class Device:
    """A named device: its transport, the settings for that, and the file that says so last."""

    name: str
    transport: str
    settings: Mapping[str, Any]
    file: Path


def list_devices(devices_file: str | Path | None = None) -> list[Device]:
    """Return all devices, those of the package first.

    Raises:
        DeviceFileError: a file is not TOML, or a device in it has no known transport or an unknown key.
        OSError: a file cannot be read.
    """
    devices: dict[str, Device] = {}
    for file, optional in _files(devices_file).items():
        tables = _tables(file, optional)
        if not optional or _is_ours(tables, devices):
            for name, table in tables.items():
                devices[name] = _device(name, table, file, devices)
    return list(devices.values())


def find_device(name: str, settings: Mapping[str, Any] | None = None, devices_file: str | Path | None = None) -> Device:
    """Return the device of this name; `settings` win over those of the files.

    Raises:
        UnknownDevice: no device has that name.
        DeviceFileError: see `list_devices`.
        ValueError: the device's transport has no such setting.
    """
    devices = {device.name: device for device in list_devices(devices_file)}
    if name not in devices:
        places = f"{PROJECT_FILE} of this folder, or in a file of your own (--devices FILE, or the environment variable {ENVIRONMENT_VARIABLE})"
        raise UnknownDevice(f"unknown device {name!r}; known devices: {', '.join(sorted(devices))}; declare others in {places}")
    device = devices[name]
    if not settings:
        return device
    known = transport_class(device.transport).setting_names
    for key, value in settings.items():
        if key not in known:
            has = f"whose transport {device.transport!r} has only the settings {', '.join(known)}"
            raise ValueError(f"{key} {value!r} was given for device {name!r}, {has}")
    return replace(device, settings=_over(device.settings, settings))


def _over(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which the later ones win: also over those that say the same in another way."""
    said_otherwise = {other for pair in _ALTERNATIVES for key, other in (pair, pair[::-1]) if key in later and other not in later}
    return {**{key: value for key, value in earlier.items() if key not in said_otherwise}, **later}


def open_device(device: Device) -> DeviceAgent:
    """Return the agent of a device.

    Raises:
        ValueError: a setting has a value that its transport refuses.
    """
    return transport_class(device.transport)(device.name, **device.settings)  # type: ignore[call-arg]


def connect(name: str, *, runtime: str | None = None, threads: int | None = None, cores: Sequence[int] | None = None,
            devices_file: str | Path | None = None, settings: Mapping[str, Any] | None = None) -> DeviceAgent:  # fmt: skip
    """Return the agent of the device of this name; what is given here wins over the files.

    Raises:
        UnknownDevice: no device has that name.
        DeviceFileError: see `list_devices`.
        ValueError: a setting has a value that its transport refuses, or is none of its settings.
    """
    given = {key: value for key, value in (("runtime", runtime), ("threads", threads), ("cores", cores)) if value is not None}
    return open_device(find_device(name, {**given, **(settings or {})}, devices_file))


def transport_class(name: str) -> type[DeviceAgent]:
    """Return the agent class of a transport.

    Raises:
        LookupError: no transport has that name.
    """
    if name in TRANSPORTS:
        module, _, class_name = TRANSPORTS[name].partition(":")
        built_in: type[DeviceAgent] = getattr(importlib.import_module(module), class_name)
        return built_in
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    for point in points.select(name=name):
        loaded: type[DeviceAgent] = point.load()
        return loaded
    known = sorted({*TRANSPORTS, *points.names})
    raise LookupError(f"unknown transport {name!r}; known transports: {', '.join(known)}")


# --- files ----------------------------------------------------------------------------------------------------------------


def _files(devices_file: str | Path | None) -> dict[Path, bool]:
    """Return the files to read in order, each once → whether it is fine that one is not there, or is something else."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    places: list[tuple[str | Path | None, bool]] = [(PROJECT_FILE, True), (named or None, False), (devices_file, False)]
    found: dict[Path, tuple[Path, bool]] = {}
    for place, optional in places:
        if place is not None and Path(place).resolve() != BUILT_IN_FILE.resolve():
            found.pop(Path(place).resolve(), None)  # named twice, it counts where it is named last
            found[Path(place).resolve()] = Path(place), optional
    return {BUILT_IN_FILE: False, **dict(found.values())}


def _tables(file: Path, optional: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if not optional:
            raise DeviceFileError(f"devices file {file} is not TOML: {error}") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        if not optional:
            raise type(error)(
                f"devices file {str(file)!r} was not found; expected the file that --devices or {ENVIRONMENT_VARIABLE} names"
            ) from error
    return {}


def _is_ours(tables: Mapping[str, Any], devices: Mapping[str, Device]) -> bool:
    """Return whether a file that happens to be named as ours is about our devices; if so, mistakes in it are errors."""
    return any(isinstance(table, dict) and ("transport" in table or "based_on" in table or name in devices) for name, table in tables.items())


def _device(name: str, table: Any, file: Path, devices: Mapping[str, Device]) -> Device:
    """Return the device of a table: on its own where it names a transport, else an earlier one with other settings."""
    if not _NAME.fullmatch(name):
        raise DeviceFileError(f"{name!r} in {file} is no name of a device; expected up to 50 letters, digits, '.', '_' and '-', not first a sign")
    settings = dict(table) if isinstance(table, dict) else {}
    transport, base = settings.pop("transport", None), settings.pop("based_on", None)
    earlier = devices.get(str(base or name))
    if isinstance(transport, str) and base is None:
        device = Device(name, transport, settings, file)
    elif transport is None and earlier is not None:
        device = Device(name, earlier.transport, _over(earlier.settings, settings), file)
    elif base is not None:
        known = ", ".join(sorted(devices))
        raise DeviceFileError(f"device {name!r} in {file} is based_on {base!r}; expected a device declared before ({known}), and no transport")
    else:
        raise DeviceFileError(f'device {name!r} in {file} has no transport; expected a table such as [{name}] with transport = "local"')
    if file != BUILT_IN_FILE:  # the package's own is checked by its tests: listing imports no transport
        _refuse_unknown_keys(device.transport, name, settings, file)
    return device


def _refuse_unknown_keys(transport: str, name: str, settings: Mapping[str, Any], file: Path) -> None:
    try:
        known = transport_class(transport).setting_names
    except LookupError as error:
        raise DeviceFileError(f"device {name!r} in {file}: {error}") from error
    unknown = [key for key in settings if key not in known]
    if unknown:
        keys = f"keys of transport {transport!r}: {', '.join(known)}; and transport or based_on"
        raise DeviceFileError(f"device {name!r} in {file} has the unknown key {unknown[0]!r}; {keys}")
