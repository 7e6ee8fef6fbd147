"""Devices by name, from devices.toml and a file of the user's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


class DeviceFileError(ValueError):
    """A file of devices cannot be understood; the text names the file and the device."""


@dataclass(frozen=True)
class Device:
    """A named device: its transport, the settings for that, and the file that says so."""

    name: str
    transport: str
    settings: Mapping[str, Any]
    file: Path


def list_devices(devices_file: str | Path | None = None) -> list[Device]:
    """Return the built-in devices and those of `devices_file`, which win over built-in ones of the same name.

    Raises:
        DeviceFileError: a file is not TOML, or a device in it has no known transport or an unknown key.
        OSError: a file cannot be read.
    """
    files = [BUILT_IN_FILE] if devices_file is None else [BUILT_IN_FILE, Path(devices_file)]
    return list({device.name: device for file in files for device in _read(file)}.values())


def connect(name: str, *, runtime: str | None = None, threads: int | None = None, cores: Sequence[int] | None = None,
            devices_file: str | Path | None = None) -> DeviceAgent:  # fmt: skip
    """Return the agent of the device of this name; what is given here wins over the file.

    Raises:
        UnknownDevice: no device has that name.
        DeviceFileError: see `list_devices`.
        ValueError: a setting has a value that its transport refuses, or is none of its settings.
    """
    devices = {device.name: device for device in list_devices(devices_file)}
    if name not in devices:
        files = str(BUILT_IN_FILE) if devices_file is None else f"{devices_file} or {BUILT_IN_FILE}"
        raise UnknownDevice(f"unknown device {name!r}; known devices: {', '.join(sorted(devices))}; declare others in {files}")
    device = devices[name]
    agent = transport_class(device.transport)
    given = {key: value for key, value in (("runtime", runtime), ("threads", threads), ("cores", cores)) if value is not None}
    for key, value in given.items():
        if key not in agent.setting_names:
            known = ", ".join(agent.setting_names)
            raise ValueError(f"{key} {value!r} was given for device {name!r}, whose transport {device.transport!r} has only the settings {known}")
    return agent(name, **{**device.settings, **given})  # type: ignore[call-arg]


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


def _read(file: Path) -> list[Device]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceFileError(f"devices file {file} is not TOML: {error}") from error
    return [_device(name, table, file) for name, table in tables.items()]


def _device(name: str, table: Any, file: Path) -> Device:
    if not isinstance(table, dict) or not isinstance(table.get("transport"), str):
        raise DeviceFileError(f'device {name!r} in {file} has no transport; expected a table such as [{name}] with transport = "local"')
    settings = {key: value for key, value in table.items() if key != "transport"}
    try:
        known = transport_class(table["transport"]).setting_names
    except LookupError as error:
        raise DeviceFileError(f"device {name!r} in {file}: {error}") from error
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise DeviceFileError(f"device {name!r} in {file} has the unknown key {unknown[0]!r}; known keys: transport, {', '.join(known)}")
    return Device(name, table["transport"], settings, file)
