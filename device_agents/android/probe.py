"""What a phone is, read in one call before measuring: properties, cores and their clocks, temperatures, battery, screen, its clock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from device_agents.android import batch, clusters, state
from device_agents.android.transport import words

PROPERTIES = (
    "ro.product.model", "ro.product.manufacturer", "ro.build.version.release", "ro.build.version.sdk", "ro.build.fingerprint",
    "ro.product.cpu.abilist", "ro.product.cpu.abi", "ro.soc.model", "ro.board.platform", "ro.hardware",
)  # fmt: skip
MOST_ZONES = 8  # of the processor that are read between visits, where the thermal HAL says nothing
TOOLS = ("taskset", "tar", "setsid", "sha256sum", "dumpsys")

PROBE = """root={root}
{functions}
for name in {properties}; do echo "prop $name $(getprop "$name" 2>/dev/null)"; done
echo "kernel $(uname -r)"
for tool in {tools}; do command -v "$tool" >/dev/null 2>&1 && echo "tool $tool"; done
{{ while read -r key value; do [ "$key" = Cpus_allowed_list: ] && echo "allowed $value"; done </proc/self/status; }} 2>/dev/null
for folder in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
    core=${{folder##*/cpu}}
    number "$folder/cpufreq/cpuinfo_max_freq" && echo "max $core $value"
    number "$folder/cpufreq/scaling_governor" && echo "governor $core $value"
    number "$folder/cpufreq/scaling_max_freq" && echo "cap $core $value"
    number "$folder/cpufreq/scaling_cur_freq" && echo "cur $core $value"
done
for folder in "$root"/sys/class/thermal/thermal_zone*; do
    number "$folder/type" && kind=$value && number "$folder/temp" && echo "kind ${{folder##*thermal_zone}} $value $kind"
done
up; echo "clock $up $(date +%s%N)"
quick
echo @thermal; dumpsys thermalservice 2>/dev/null
echo @battery; dumpsys battery 2>/dev/null
echo @power; dumpsys power 2>/dev/null | grep mWakefulness=
echo @end
"""


@dataclass(frozen=True)
class Phone:
    """What a phone said of itself; what it did not say is None or not in the mappings."""

    properties: Mapping[str, str]
    tools: tuple[str, ...]
    kernel: str | None
    allowed: tuple[int, ...]
    maxima_khz: Mapping[int, int | None]
    caps_khz: Mapping[int, int]
    governors: Mapping[int, str]
    zones: tuple[int, ...]
    screen_on: bool | None
    moment: state.Moment
    clock: tuple[float, int]  # seconds since boot, and the Unix time then in nanoseconds
    sections: Mapping[str, Sequence[str]] = field(repr=False)

    def unix_time_ns(self, uptime_s: float | None) -> int:
        """Return the time of a moment since boot, by the phone's clock as it was at first: stepping it changes nothing.

        It is as exact as the kernel tells the time since boot: a hundredth of a second.
        """
        at_s, unix_ns = self.clock
        return unix_ns if uptime_s is None else unix_ns + round((uptime_s - at_s) * 1e9)

    @property
    def abis(self) -> list[str]:
        """The binary interfaces that it runs."""
        return [abi for abi in (self.properties.get("ro.product.cpu.abilist") or self.properties.get("ro.product.cpu.abi", "")).split(",") if abi]

    @property
    def processor(self) -> str | None:
        """Its processor's name."""
        return next((self.properties[name] for name in ("ro.soc.model", "ro.board.platform", "ro.hardware") if self.properties.get(name)), None)

    def describe(self) -> dict[str, Any]:
        """Return what may explain a difference between two phones of one name."""
        names = {"model": "ro.product.model", "manufacturer": "ro.product.manufacturer", "android": "ro.build.version.release",
                 "sdk": "ro.build.version.sdk", "build": "ro.build.fingerprint"}  # fmt: skip
        groups = [list(group) for group in clusters.clusters(self.maxima_khz)]
        return {**{key: self.properties.get(name) for key, name in names.items()}, "abis": self.abis, "clusters": groups}


def probe_script(root: str) -> str:
    """Return the script that says it."""
    zones_and_cores = "zones=; cores=\n"
    return PROBE.format(
        root=words([root]), functions=zones_and_cores + batch.UP + batch.READINGS, properties=" ".join(PROPERTIES), tools=" ".join(TOOLS)
    )


def phone(text: str) -> Phone:
    """Return what the script's output says."""
    parts = batch.sections(["before", *text.splitlines()])
    rows: dict[str, list[list[str]]] = {}
    for line in parts.get("before", ()):
        word, _, rest = line.partition(" ")
        rows.setdefault(word, []).append(rest.split(" "))
    dumps = {name: "\n".join(parts.get(f"before@{name}", ())) for name in ("thermal", "battery", "power")}
    maxima = _by_core(rows, "max")
    zones = [row for row in rows.get("kind", ()) if len(row) > 2 and state.is_processor_zone(row[2]) and state.zone_c(row[1]) is not None]
    up_s, unix_ns = _clock(rows)
    allowed = clusters.parse_list(rows["allowed"][0][0]) if rows.get("allowed") else None
    return Phone(
        properties={row[0]: value for row in rows.get("prop", ()) if (value := " ".join(row[1:]).strip())},
        tools=tuple(row[0] for row in rows.get("tool", ())),
        kernel=" ".join(rows["kernel"][0]) or None if "kernel" in rows else None,
        allowed=allowed or (),
        maxima_khz={core: maxima.get(core) for core in sorted({*maxima, *(allowed or ())})},
        caps_khz=_by_core(rows, "cap"),
        governors={int(row[0]): row[1] for row in rows.get("governor", ()) if len(row) == 2 and row[0].isdecimal()},
        zones=tuple(int(row[0]) for row in zones if row[0].isdecimal())[:MOST_ZONES],
        screen_on=state.screen_is_on(dumps["power"]),
        moment=state.moment(parts.get("before", ()), state.thermal(dumps["thermal"]), state.battery(dumps["battery"])),
        clock=(up_s, unix_ns),
        sections=parts,
    )  # fmt: skip


def _by_core(rows: Mapping[str, Sequence[Sequence[str]]], word: str) -> dict[int, int]:
    pairs = (row for row in rows.get(word, ()) if len(row) == 2 and row[0].isdecimal() and row[1].isdecimal())
    return {int(core): int(value) for core, value in pairs if int(value) > 0}


def _clock(rows: Mapping[str, Sequence[Sequence[str]]]) -> tuple[float, int]:
    """Return seconds since boot and the Unix time in nanoseconds; old shells know whole seconds only."""
    for row in rows.get("clock", ()):
        found = re.match(r"(\d{1,12})(\d{9})?(?!\d)", row[1]) if len(row) == 2 else None
        if found and re.fullmatch(r"\d+(\.\d+)?", row[0]):
            long = len(found.group(0)) > 12
            return float(row[0]), int(found.group(0)) if long else int(found.group(0)) * 10**9
    return 0.0, 0
