"""What a Linux device says of itself: load, clock, temperature, throttling, memory. None where it cannot be read, never 0."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# zones and sensors that belong to the processor; others (battery, disk, skin, ACPI's placeholder) say nothing of its clock
PROCESSOR_ZONE = re.compile(r"cpu|soc|x86_pkg|coretemp|k10temp|zenpower", re.IGNORECASE)
VCGENCMD_NOW = 0xF  # under-voltage, clock capped, throttled, soft temperature limit: at this moment
VCGENCMD_SINCE_BOOT = 0xF0000  # the same four, at any time since boot
VCGENCMD_TIMEOUT_S = 2.0
VCGENCMD_FOLDERS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/opt/vc/bin"])  # the latter in older systems, and on no PATH over SSH


class StateReader:
    """Reads the state of the cores in use; remembers what counts since boot, so that `throttled` covers the time between readings.

    A core is throttled while it may clock less than `clock_limits_khz` (one a core) says: what it could when the session
    began. By default that is now: a cap that was there from the start is a condition, not throttling.
    """

    def __init__(self, cores: list[int], root: str = "/", clock: Callable[[], int] = time.time_ns, vcgencmd: str | None = None,
                 clock_limits_khz: list[int | None] | None = None) -> None:  # fmt: skip
        self._root = Path(root)
        self._clock = clock
        self._cores = cores or list(range(os.cpu_count() or 1))
        self._temperature_files = _temperature_files(self._root)
        self._vcgencmd = vcgencmd or (shutil.which("vcgencmd", path=VCGENCMD_FOLDERS) if root == "/" else None)
        self.clock_limits_khz = clock_limits_khz or self._each_core("scaling_max_freq")
        self._events, _ = self._throttle_signs()

    def read(self) -> dict[str, Any]:
        """Return the fields of a DeviceState."""
        return {
            "unix_time_ns": self._clock(),
            "load_1m": self._load(),
            "frequency_khz": self._frequency_khz(),
            "temperature_c": max(filter(None, map(_temperature_c, self._temperature_files)), default=self._board_temperature_c()),
            "throttled": self._throttled(),
            "memory_available_kb": memory_kb(self._root, "MemAvailable"),
        }

    def _frequency_khz(self) -> int | None:
        """Return the slowest clock; a Raspberry Pi's kernel says what it asked for, and its firmware what it gives."""
        found = re.fullmatch(r"frequency\(\d+\)=(\d+)", _vcgencmd(self._vcgencmd, "measure_clock", "arm"))
        given = [int(found.group(1)) // 1000] if found and int(found.group(1)) >= 1000 else []
        return min(self._cpufreq("scaling_cur_freq") + given, default=None)

    def _board_temperature_c(self) -> float | None:
        found = None if self._temperature_files else re.fullmatch(r"temp=(\d+\.\d+)'C", _vcgencmd(self._vcgencmd, "measure_temp"))
        return float(found.group(1)) if found else None

    def governor(self) -> str | None:
        """Return the frequency governor of the first core."""
        return text_of(self._cpufreq_file(self._cores[0], "scaling_governor"))

    def clock_maxima_khz(self) -> list[int | None]:
        """Return the highest clock that each core is built for."""
        return self._each_core("cpuinfo_max_freq")

    def _load(self) -> float | None:
        words = (text_of(self._root / "proc/loadavg") or "").split()
        return float(words[0]) if words else None

    def _cpufreq_file(self, core: int, name: str) -> Path:
        return self._root / f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}"

    def _cpufreq(self, name: str) -> list[int]:
        return [value for value in self._each_core(name) if value]

    def _each_core(self, name: str) -> list[int | None]:
        return [number_of(self._cpufreq_file(core, name)) for core in self._cores]

    def _throttled(self) -> bool | None:
        events, signs = self._throttle_signs()
        signs += [events[source] != self._events[source] for source in events if source in self._events]
        self._events = events
        return any(signs) if signs else None

    def _throttle_signs(self) -> tuple[dict[str, int], list[bool]]:
        """Return source → what it has counted or marked since boot, and what each source that can tell says of this moment."""
        events, now = {}, []
        for core, limit in zip(self._cores, self.clock_limits_khz):  # noqa: B905 - `strict` came with Python 3.10
            count = number_of(self._root / f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count")
            if count is not None:
                events[f"core {core}"] = count
            allowed = number_of(self._cpufreq_file(core, "scaling_max_freq"))
            if allowed and limit:
                now.append(allowed < limit)
        bits = _vcgencmd_bits(self._vcgencmd)
        if bits is not None:
            events["vcgencmd"] = bits & VCGENCMD_SINCE_BOOT
            now.append(bool(bits & VCGENCMD_NOW))
        return events, now


def describe(root: str = "/") -> dict[str, Any]:
    """Return what does not change: processor, kernel, machine, memory, Python."""
    path = Path(root)
    return {
        "cpu_model": _cpu_model(path),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "logical_cpus": os.cpu_count(),
        "memory_total_kb": memory_kb(path, "MemTotal"),
        "python_version": platform.python_version(),
    }


def memory_kb(root: Path, field: str) -> int | None:
    """Return a field of /proc/meminfo."""
    found = re.search(rf"^{field}:\s+(\d+) kB", text_of(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def _cpu_model(root: Path) -> str | None:
    """Return the board's name where it has one: what boards say of their processor (BCM2835, ARMv7) is the same for several of them."""
    cpuinfo = text_of(root / "proc/cpuinfo") or ""
    said = {field: re.search(rf"^{field}\s*:\s*(.+)$", cpuinfo, re.MULTILINE) for field in ("Model", "model name", "Hardware")}
    board = (text_of(root / "proc/device-tree/model") or "").strip("\0 ")
    names = [said["Model"] and said["Model"].group(1), board, *(found and found.group(1) for found in (said["model name"], said["Hardware"]))]
    return next((name.strip() for name in names if name), None)


def _temperature_files(root: Path) -> list[Path]:
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    sensors = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    found = [zone / "temp" for zone in zones if PROCESSOR_ZONE.search(text_of(zone / "type") or "")]
    return found or [file for s in sensors if PROCESSOR_ZONE.search(text_of(s / "name") or "") for file in sorted(s.glob("temp*_input"))]


def _temperature_c(file: Path) -> float | None:
    """Return degrees; kernels give thousandths, some tenths or whole degrees. Values no running chip has are sentinels."""
    value = number_of(file)
    if value is None:
        return None
    degrees = value / 1000 if abs(value) >= 2000 else value / 10 if abs(value) >= 200 else float(value)
    return degrees if 0 < degrees < 150 else None


def _vcgencmd_bits(command: str | None) -> int | None:
    found = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", _vcgencmd(command, "get_throttled"))
    return int(found.group(1), 16) if found else None


def _vcgencmd(command: str | None, *words: str) -> str:
    """Return what a Raspberry Pi's firmware answers; nothing where there is none, or no right to ask it."""
    if command is None:
        return ""
    try:
        return subprocess.run([command, *words], capture_output=True, timeout=VCGENCMD_TIMEOUT_S, text=True, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def text_of(file: Path) -> str | None:
    """Return what is in a file of the system; None where it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None


def number_of(file: Path) -> int | None:
    """Return the whole number in a file of the system; None where there is none."""
    text = text_of(file)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None
