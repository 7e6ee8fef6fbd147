"""The steps that prove that a phone can be measured, each said in one line; the first that fails is the last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from device_agents.android import state
from device_agents.android.clusters import clusters, listed
from device_agents.android.placing import confirm_cores, place
from device_agents.android.probe import Phone
from device_agents.android.runner import version_of
from device_agents.android.transport import Unauthorised
from device_agents.base import Check, DeviceError

if TYPE_CHECKING:
    from device_agents.adb import AdbAgent


def checks(agent: AdbAgent) -> Iterator[Check]:
    """Yield the steps, each as soon as it is proved."""
    step = "reachable"
    try:
        transport = agent.transport
        transport.run(["true"])
        yield Check("reachable", True, f"serial {transport.serial}")
        yield Check("authorised", True, "it accepts this computer's key")
        step = "writable"
        with agent.begun() as session:
            yield Check("writable", True, agent.folder)
            found = agent.probe()
            step = "runtime"
            placed = place(session, agent.runner, agent.device, found.abis)
            version = version_of(placed.sha256, agent.runner_version)
            yield Check("runtime", True, f"{agent.runner.kind} {version}, started on {' or '.join(found.abis) or 'the phone'}")
            step = "cores pinned"
            cores = agent.wanted_cores(found)
            confirm_cores(session, cores, agent.device)
            yield Check("cores pinned", True, f"cores {listed(cores)}" if cores else "not pinned, as set")
        yield from _readings(agent, found, cores)
    except Unauthorised as error:
        if step == "reachable":
            yield Check("reachable", True, "it answers")
            step = "authorised"
        yield Check(step, False, str(error))
    except DeviceError as error:
        yield Check(step, False, str(error))


def _readings(agent: AdbAgent, found: Phone, cores: tuple[int, ...]) -> Iterator[Check]:
    moment = found.moment
    groups = clusters(found.maxima_khz)
    clocks = "; ".join(f"cores {listed(group)} up to {found.maxima_khz[group[0]]} kHz" for group in groups)
    readable = bool(groups) and all(core in found.caps_khz for core in cores)
    yield Check("clocks readable", readable or None, clocks or "the phone does not tell its clocks: a capped one goes unnoticed")
    limits = state.Limits({}, agent.hottest_c, agent.highest_status)
    hot = moment.too_hot(limits)
    yield Check("temperature", None if hot is None else not hot, _temperature(found))
    if hot:
        return
    battery = moment.battery
    enough = None if battery.percent is None else battery.percent >= agent.least_battery_percent
    said = "the phone does not tell" if battery.percent is None else f"{battery.percent} %, {(battery.status or 'status unknown').lower()}"
    yield Check("battery", enough, said if enough is not False else f"{said}; charge it to {agent.least_battery_percent} %")
    if enough is not False:
        with contextlib.suppress(KeyError):
            yield Check(
                "screen", None if found.screen_on is None else True, {True: "on", False: "off", None: "the phone does not tell"}[found.screen_on]
            )


def _temperature(found: Phone) -> str:
    thermal, battery = found.moment.thermal, found.moment.battery
    parts = [] if thermal.status is None else [f"thermal status {state.THERMAL_STATUSES[min(thermal.status, 6)]}"]
    hottest = thermal.processor_c if thermal.processor_c is not None else max(found.moment.zones_c, default=None)
    readings = (("processor", hottest), ("skin", thermal.skin_c), ("battery", battery.temperature_c))
    parts += [f"{name} {value:.1f} °C" for name, value in readings if value is not None]
    return ", ".join(parts) or "the phone does not tell"
