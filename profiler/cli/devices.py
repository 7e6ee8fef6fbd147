"""`profiler devices`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler.cli.device_options import Address, Batch, Cluster, Delegate, DevicesFile, Precision, Runner, Set, settings_of
from profiler.cli.options import AsJson, BadOptionError, Cores, Runtime, Threads, parse_cores, typed

if TYPE_CHECKING:
    from device_agents.base import Check, DeviceAgent
    from device_agents.devices import Device
    from profiler.checking import Repeatability

MINUTES = 2.0


def command(
    check: Annotated[
        str | None, typer.Option("--check", help="Prove step by step that this device can be measured, and how well it repeats itself.")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option("--bootstrap", help="Make a virtual environment with the runtime on this device, which SSH reaches.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0, max=60, help=f"How long to test that, up to an hour, {MINUTES:g} by default; 0 leaves it out."),
    ] = None,
    runtime: Runtime = None,
    threads: Threads = None,
    cores: Cores = None,
    address: Address = None,
    runner: Runner = None,
    cluster: Cluster = None,
    delegate: Delegate = None,
    precision: Precision = None,
    batch: Batch = None,
    assignments: Set = None,
    devices_file: DevicesFile = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that can be measured and what of them is attached, or prove that one can be measured.

    \b
    Example: profiler devices --check local
    """
    from device_agents.devices import find_device, list_devices, open_device
    from device_agents.presence import presence
    from profiler.cli.output import print_json, print_table, say

    common = {
        "runtime": runtime, "threads": threads, "cores": parse_cores(cores), "address": address, "runner": runner, "cluster": cluster,
        "delegate": delegate, "precision": precision, "batch": batch,
    }  # fmt: skip
    name = check or bootstrap
    if check is not None and bootstrap is not None:
        raise BadOptionError("--check and --bootstrap were both given; give one, and then the other")
    if name is not None:
        with typed():
            device = find_device(name, settings_of([name], assignments, **common)[name], devices_file)
            agent = open_device(device)
        with agent:
            if check is None:
                _bootstrap(agent, device)
            else:
                _check(agent, name, MINUTES if minutes is None else minutes, as_json)
        return
    meant_for_one = [f"--{key}" for key, value in {"minutes": minutes, **common, "set": assignments}.items() if value]
    if meant_for_one:
        raise BadOptionError(f"{meant_for_one[0]} is about one device; name it with --check")
    devices = list_devices(devices_file)
    seen = presence(devices)
    found = seen.found
    if as_json:
        print_json(
            [
                {"device": d.name, "transport": d.transport, "attached": found[d.name].there, "found": found[d.name].text, **d.settings}
                for d in devices
            ]
        )
        return
    rows = [(d.name, d.transport, found[d.name].text, ", ".join(f"{key} {value}" for key, value in d.settings.items())) for d in devices]
    print_table("Devices", ("device", "transport", "found", "settings"), rows)
    for note in seen.notes:
        say(note)


def _bootstrap(agent: DeviceAgent, device: Device) -> None:
    from device_agents.bootstrap import bootstrap
    from device_agents.ssh import SshAgent
    from profiler.cli.output import put

    if not isinstance(agent, SshAgent):
        raise BadOptionError(f"device {device.name!r} is reached by transport {device.transport!r}; --bootstrap is for devices that SSH reaches")
    for step in bootstrap(agent):
        put(step)


def _check(agent: DeviceAgent, name: str, minutes: float, as_json: bool) -> None:
    """Show each step as it ends, what the device is, and how it repeats itself; ends with exit code 1 where a step failed."""
    from profiler.checking import check_repeatability, proved
    from profiler.cli.output import print_json, print_table, progress_bar, put

    steps: list[Check] = []
    for step in proved(agent):
        steps.append(step)
        if not as_json:
            put(f"{_VERDICTS[step.passed]:12s} {step.name:16s} {step.text}")
    shown: dict[str, Any] = {"checks": [{"name": step.name, "passed": step.passed, "text": step.text} for step in steps], "repeatability": None}
    failed = any(step.passed is False for step in steps)
    if not failed:
        info = agent.info().to_dict()
        shown = {**info, **shown}
        if not as_json:
            print_table(f"Device {name}", ("what", "value"), [(key, _shown(value)) for key, value in info.items()])
        if minutes:
            with progress_bar("checking") as report:
                found = check_repeatability(agent, minutes, lambda done, total: report(done, total, "s"))
            shown["repeatability"] = found.to_dict()
            if not as_json:
                print_table(f"Repeatability of {name}", ("what", "value"), _rows(found))
    if as_json:
        print_json(shown)
    if failed:
        raise typer.Exit(1)


_VERDICTS = {True: "ok", False: "failed", None: "cannot tell"}


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
