"""`profiler devices`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson


def command(
    check: Annotated[str | None, typer.Option("--check", help="Connect to this device and show what it and its runtime are.")] = None,
    runtime: Annotated[str | None, typer.Option("--runtime", help="Check this runtime instead of the device's own choice.")] = None,
    devices_file: Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that can be measured, or connect to one and show what it is.

    \b
    Example: profiler devices --check local
    """
    from device_agents.devices import connect, list_devices
    from profiler.cli.output import print_json, print_table

    if check is not None:
        with connect(check, runtime=runtime, devices_file=devices_file) as agent:
            info = agent.info().to_dict()
        if as_json:
            print_json(info)
        else:
            print_table(f"Device {check}", ("what", "value"), [(name, _shown(value)) for name, value in info.items()])
        return
    devices = list_devices(devices_file)
    if as_json:
        print_json([{"device": d.name, "transport": d.transport, **d.settings} for d in devices])
        return
    rows = [(d.name, d.transport, ", ".join(f"{key} {value}" for key, value in d.settings.items())) for d in devices]
    print_table("Devices", ("device", "transport", "settings"), rows)


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "not pinned"
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return str(value)
