"""Options that change a device's settings for one command, for one device or for several."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from profiler.cli.options import MOST_IMAGES_A_RUN, BadOptionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = dict[str, dict[str, Any]]  # device → setting → value

DevicesFile = Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")]
Address = Annotated[
    str | None, typer.Option("--address", help="An Android phone: its serial, usb:SERIAL, server:SERIAL (through the adb server) or tcp:HOST:PORT.")
]
Runner = Annotated[str | None, typer.Option("--runner", help="Program that times models on a phone: a name, or a path here or there.")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="Cores of a phone by their speed: big, middle or little.")]
Delegate = Annotated[str | None, typer.Option("--delegate", help="What executes the models, such as cpu, xnnpack, gpu or nnapi.")]
Precision = Annotated[str | None, typer.Option("--precision", help="What the model files hold, such as float32 or int8.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, max=MOST_IMAGES_A_RUN, help="Images a run.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting of the device, as in devices.toml: KEY=VALUE; of one of several devices: DEVICE.KEY=VALUE. Repeatable."),
]

_ASSIGNMENT = re.compile(r"(?:(?P<device>[A-Za-z0-9][A-Za-z0-9_.-]*)\.)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)


def settings_of(devices: Sequence[str], assignments: Sequence[str] | None = None, **common: Any) -> Settings:
    """Return what the command line says of each device: the `common` ones that are not None, and then what was --set.

    Raises:
        BadOptionError: what was set is no setting, or of a device that is not named; or several devices got one address.
    """
    given = {key: value for key, value in common.items() if value is not None}
    if "address" in given and len(devices) > 1:
        raise BadOptionError(f"--address {given['address']} was given for {len(devices)} devices; give each its own with --set DEVICE.address=...")
    found: Settings = {device: dict(given) for device in devices}
    for text in assignments or ():
        match = _ASSIGNMENT.fullmatch(text)
        if match is None:
            raise BadOptionError(f"--set {text!r} is not understood; expected KEY=VALUE or DEVICE.KEY=VALUE, such as threads=2 or pixel1.threads=2")
        device = match["device"]
        if device is not None and device not in found:
            raise BadOptionError(f"--set {text!r} is about device {device!r}; expected one of {', '.join(found)}")
        for each in found if device is None else (device,):
            found[each][match["key"]] = value_of(match["value"])
    return found


def value_of(text: str) -> Any:
    """Return a value as TOML has it; what is none, such as big or /data/local/tmp, is text."""
    try:
        values = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if list(values) == ["value"] else text


def device_names(text: str) -> list[str]:
    """Return the devices in `pixel1,local`.

    Raises:
        BadOptionError: a name is missing, or there twice.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise BadOptionError(f"--device {text!r} lacks a name; expected names such as pixel1 or pixel1,local")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadOptionError(f"--device {text!r} names {twice[0]} twice; name each device once")
    return names


def one_device(text: str) -> str:
    """Return the device, where there can be only one.

    Raises:
        BadOptionError: several are named.
    """
    names = device_names(text)
    if len(names) > 1:
        raise BadOptionError(f"--device {text!r} names {len(names)} devices; this command takes one, `profiler collect` several")
    return names[0]
