"""What a phone says of its temperature, battery, clocks and load, and what that means; None where it does not say.

Temperatures come from the thermal HAL's own section of `dumpsys thermalservice`: the cached one may be long out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from device_agents.base import DeviceState

THERMAL_STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
BATTERY_STATUSES = {1: "Unknown", 2: "Charging", 3: "Discharging", 4: "Not charging", 5: "Full"}

PROCESSOR = re.compile(r"cpu|soc|big|little|mid|apc|cluster|tsens", re.IGNORECASE)  # names of sensors; "type" numbers differ between makers
NOT_PROCESSOR = re.compile(r"gpu|skin|batt|usb|charg|modem|npu|disp|cam", re.IGNORECASE)
SKIN = re.compile(r"skin|quiet|shell|xo.therm", re.IGNORECASE)
COLDEST_C, HOTTEST_C = -30.0, 150.0  # what is outside is a sensor's way to say nothing, such as -99.9

HAL_SECTION = re.compile(r"^Current temperatures from HAL:[^\n]*\n((?:[ \t]+[^\n]*\n?)*)", re.MULTILINE)
TEMPERATURE = re.compile(r"Temperature\{mValue=(-?\d+(?:\.\d+)?), mType=(-?\d+), mName=(.*?), mStatus=(-?\d+)\}")


@dataclass(frozen=True)
class Thermal:
    """Temperatures of one moment; `status` is the system's own word, 0 (none) to 6 (shutdown)."""

    status: int | None = None
    processor_c: float | None = None
    skin_c: float | None = None


@dataclass(frozen=True)
class Battery:
    """Charge of one moment."""

    percent: int | None = None
    status: str | None = None
    temperature_c: float | None = None
    powered: bool | None = None


def thermal(dump: str) -> Thermal:
    """Return what `dumpsys thermalservice` says."""
    status = re.search(r"^\s*Thermal Status: (\d+)\s*$", dump, re.MULTILINE)
    section = HAL_SECTION.search(dump) if re.search(r"^\s*HAL Ready: true\s*$", dump, re.MULTILINE) else None
    readings = [(float(value), name) for value, _, name, _ in TEMPERATURE.findall(section.group(1))] if section else []
    plausible = [(value, name) for value, name in readings if COLDEST_C < value < HOTTEST_C and value != 0]
    return Thermal(
        int(status.group(1)) if status else None,
        max((value for value, name in plausible if PROCESSOR.search(name) and not NOT_PROCESSOR.search(name)), default=None),
        max((value for value, name in plausible if SKIN.search(name)), default=None),
    )


def battery(dump: str) -> Battery:
    """Return what `dumpsys battery` says."""
    values = dict(re.findall(r"^\s*([A-Za-z ]+): (-?\w+)\s*$", dump, re.MULTILINE))
    percent, status, tenths_c = (_whole(values.get(name)) for name in ("level", "status", "temperature"))
    powered = [values[name] == "true" for name in ("AC powered", "USB powered", "Wireless powered", "Dock powered") if name in values]
    return Battery(
        percent if percent is not None and 0 <= percent <= 100 else None,
        BATTERY_STATUSES.get(status) if status is not None else None,
        tenths_c / 10 if tenths_c is not None and COLDEST_C < tenths_c / 10 < HOTTEST_C else None,
        any(powered) if powered else None,
    )


def zone_c(text: str) -> float | None:
    """Return a thermal zone's temperature; kernels give thousandths, some tenths or whole degrees."""
    value = _whole(text)
    if value is None:
        return None
    degrees = value / 1000 if abs(value) >= 2000 else value / 10 if abs(value) >= 200 else float(value)
    return degrees if 0 < degrees < HOTTEST_C else None


def is_processor_zone(name: str) -> bool:
    """Return whether a thermal zone of this type belongs to the processor."""
    return bool(PROCESSOR.search(name)) and not NOT_PROCESSOR.search(name)


def screen_is_on(dump: str) -> bool | None:
    """Return what `dumpsys power` says of the screen."""
    found = re.search(r"mWakefulness=(\w+)", dump)
    return found.group(1) == "Awake" if found else None


@dataclass(frozen=True)
class Limits:
    """What a phone must keep to, to be itself: `clocks_khz` is what each core in use might clock when the session began."""

    clocks_khz: Mapping[int, int | None] = field(default_factory=dict)
    hottest_c: float | None = None
    highest_status: int = 0


@dataclass(frozen=True)
class Moment:
    """One reading of a phone, as its shell wrote it: words by line, the latest of the slow readings with it."""

    uptime_s: float | None
    clocks_khz: tuple[int, ...]
    caps_khz: Mapping[int, int]
    zones_c: tuple[float, ...]
    load_1m: float | None
    memory_available_kb: int | None
    thermal: Thermal
    battery: Battery

    def too_hot(self, limits: Limits) -> bool | None:
        """Return whether the phone is not itself now: hot by its own or our word, or clocked down; None where it says nothing of that."""
        signs = [self.caps_khz[core] < limit for core, limit in limits.clocks_khz.items() if limit and core in self.caps_khz]
        if self.thermal.status is not None:
            signs.append(self.thermal.status > limits.highest_status)
        outside_c = [value for value in (self.thermal.skin_c, self.battery.temperature_c) if value is not None]
        if limits.hottest_c is not None and outside_c:
            signs.append(max(outside_c) > limits.hottest_c)
        return any(signs) if signs else None

    def state(self, unix_time_ns: int, limits: Limits, clock_khz: int | None = None) -> DeviceState:
        """Return it as a state; `clock_khz` is the clock while something ran, in place of that of this moment."""
        hottest = self.thermal.processor_c
        return DeviceState(
            unix_time_ns, self.load_1m, clock_khz if clock_khz is not None else min(self.clocks_khz, default=None),
            hottest if hottest is not None else max(self.zones_c, default=None), self.too_hot(limits), self.memory_available_kb,
        )  # fmt: skip


def moment(lines: Iterable[str], thermal_now: Thermal, battery_now: Battery) -> Moment:
    """Return the reading in lines such as `cur 4 1804800`; lines of other words are left out."""
    found: dict[str, list[Sequence[str]]] = {}
    for word, *rest in filter(None, map(str.split, lines)):
        found.setdefault(word, []).append(rest)
    clocks = (_whole(rest[1]) for rest in found.get("cur", ()) if len(rest) == 2)
    caps = {int(rest[0]): _whole(rest[1]) for rest in found.get("cap", ()) if len(rest) == 2 and rest[0].isdecimal()}
    zones = (zone_c(rest[-1]) for rest in found.get("zone", ()) if rest)
    return Moment(
        uptime_s=_first(found, "up"),
        clocks_khz=tuple(clock for clock in clocks if clock and clock > 0),
        caps_khz={core: cap for core, cap in caps.items() if cap and cap > 0},
        zones_c=tuple(zone for zone in zones if zone is not None),
        load_1m=_first(found, "load"),
        memory_available_kb=int(memory) if (memory := _first(found, "memory")) is not None else None,
        thermal=thermal_now, battery=battery_now,
    )  # fmt: skip


def _first(found: Mapping[str, Sequence[Sequence[str]]], word: str) -> float | None:
    for rest in found.get(word, ()):
        if rest and re.fullmatch(r"\d{1,15}(\.\d{1,9})?", rest[0]):
            return float(rest[0])
    return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,15}", text.strip()) else None
