"""A session of measuring: what the device's own words become in a store."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any

from device_agents.base import DeviceInfo
from luts.condition import Condition
from luts.store import MeasurementStore
from profiler.measuring.collectors import own_name


def condition_of(info: DeviceInfo) -> Condition:
    """Return the condition that measurements of this device, so set up, have."""
    return Condition(
        device=info.device, runtime=info.runtime, runtime_version=info.runtime_version, delegate=info.delegate, threads=info.threads,
        cores=info.cores, batch=info.batch, precision=info.precision, cpu_model=info.cpu_model or "unknown",
    )  # fmt: skip


def note_session(store: MeasurementStore, info: DeviceInfo, unix_time_s: float) -> None:
    """Add this session to the store's provenance: when it began, with which software, and all the device said of itself."""
    session: dict[str, Any] = {
        "began_unix_s": round(unix_time_s, 3),
        "collector": own_name(),
        "tool_version": _tool_version(),
        "python_version": platform.python_version(),
        "device": json.loads(json.dumps(info.to_dict(), default=str)),
    }
    store.change_provenance(lambda known: {**known, "sessions": [*known.get("sessions", []), session]})


def _tool_version() -> str:
    try:
        return metadata.version("elastic-latency")
    except metadata.PackageNotFoundError:
        return "not installed"
