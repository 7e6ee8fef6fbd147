"""`profiler devices`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.options import AsJson, typed

if TYPE_CHECKING:
    from profiler.checking import Repeatability


def command(
    check: Annotated[str | None, typer.Option("--check", help="Connect to this device, show what it is, and how well it repeats itself.")] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0, max=60, help="How long to test that, up to an hour; 0 shows only what the device is.")
    ] = 2.0,
    runtime: Annotated[str | None, typer.Option("--runtime", help="Check this runtime instead of the device's own choice.")] = None,
    devices_file: Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that can be measured, or connect to one and show what it is and how well it repeats itself.

    \b
    Example: profiler devices --check local
    """
    from device_agents.devices import connect, list_devices
    from profiler.checking import check_repeatability
    from profiler.cli.output import print_json, print_table, progress_bar

    if check is not None:
        with typed():
            agent = connect(check, runtime=runtime, devices_file=devices_file)
        with agent:
            info = agent.info().to_dict()
            if not as_json:
                print_table(f"Device {check}", ("what", "value"), [(name, _shown(value)) for name, value in info.items()])
            found = None
            if minutes:
                with progress_bar("checking") as report:
                    found = check_repeatability(agent, minutes, lambda done, total: report(done, total, "s"))
        if as_json:
            print_json({**info, "repeatability": None if found is None else found.to_dict()})
        elif found is not None:
            print_table(f"Repeatability of {check}", ("what", "value"), _rows(found))
        return
    devices = list_devices(devices_file)
    if as_json:
        print_json([{"device": d.name, "transport": d.transport, **d.settings} for d in devices])
        return
    rows = [(d.name, d.transport, ", ".join(f"{key} {value}" for key, value in d.settings.items())) for d in devices]
    print_table("Devices", ("device", "transport", "settings"), rows)


def _rows(found: Repeatability) -> list[tuple[str, str]]:
    dwells = [f"{name} {seconds:.2f} s" for name, seconds in (("slow", found.slow_dwell_s), ("fast", found.fast_dwell_s)) if seconds is not None]
    needed = [(percent, visits) for percent, visits in ((1, found.visits_for_1_percent), (2, found.visits_for_2_percent))]
    return [
        ("measured", f"{found.visits} visits in {found.workers} workers, {found.seconds:.0f} s"),
        ("time in the slow state", f"{found.slow_share:.0%}"),
        ("stays in a state", ", ".join(dwells) or "never changed"),
        ("repeated estimates apart", f"{found.apart_median:.2%} (median), {found.apart_worst:.2%} (worst)"),
        *((f"visits for {percent} %", "more than half of those made" if visits is None else str(visits)) for percent, visits in needed),
    ]


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "not pinned"
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return str(value)
