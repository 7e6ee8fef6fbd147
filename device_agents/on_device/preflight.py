"""What may explain a session's figures, read once before it: clock limits, battery, the timer, the runtime's build. None where unreadable."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .system_state import StateReader, number_of, text_of
from .timed_loop import timed_cycles

TIMER_READINGS = 201


def preflight(reader: StateReader, package: str, root: str = "/") -> dict[str, Any]:
    """Return the fingerprint of a device whose runtime is this (imported) package, and its state at this moment."""
    path = Path(root)
    return {
        "clock_limits_khz": reader.clock_limits_khz, "clock_maxima_khz": reader.clock_maxima_khz(), **_battery(path),
        "timer_floor_ns": timer_floor_ns(), "build_sha256": _build(path, package), "state": reader.read(),
    }  # fmt: skip


def timer_floor_ns(clock: Callable[[], int] = time.perf_counter_ns) -> int:
    """Return what the timed loop says of a call that does nothing: the median, at least 1."""
    (samples,), _ = timed_cycles([_nothing], TIMER_READINGS, TIMER_READINGS, clock=clock)
    return max(1, sorted(samples)[TIMER_READINGS // 2])


def _nothing() -> None:
    pass


def _battery(root: Path) -> dict[str, Any]:
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if text_of(supply / "type") == "Battery":
            return {"battery_percent": number_of(supply / "capacity"), "battery_status": text_of(supply / "status")}
    return {"battery_percent": None, "battery_status": None}


def _build(root: Path, package: str) -> str | None:
    """Return the SHA-256 of the largest native library that this process has mapped from the package's folder."""
    mapped = re.findall(rf"/\S*/{re.escape(package)}/\S*\.so\S*$", text_of(root / "proc/self/maps") or "", re.MULTILINE) if package else []
    try:
        largest = max(map(Path, set(mapped)), key=lambda library: (library.stat().st_size, str(library)), default=None)
        return None if largest is None else hashlib.sha256(largest.read_bytes()).hexdigest()
    except OSError:
        return None
