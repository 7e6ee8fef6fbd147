"""What a farm of devices is asked for, one job a collector, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceAgent
from device_agents.devices import Device
from profiler.collecting import CollectResult, Report, collect_table, space_to_measure
from profiler.measuring.settings import preset
from supernets.space import SearchSpace


@dataclass(frozen=True)
class Collection:
    """What is to be measured, and how thoroughly: the arguments of `collect_table` that are the same for every device."""

    space: str
    resolutions: str | None = None
    preset: str = "full"
    seed: int = 0
    rounds: int | None = None
    time_budget_s: float | None = None
    thin: bool = False

    def check(self) -> SearchSpace:
        """Return the space to measure.

        Raises:
            ValueError, LookupError: no such space, resolutions or preset.
        """
        preset(self.preset)
        return space_to_measure(self.space, self.resolutions)


@dataclass(frozen=True)
class Job:
    """One collector: the device it measures, where to (a file's path, or a URL), and the Ray cluster that its device hangs on, if it does."""

    device: Device
    place: str | Path
    collection: Collection
    cluster: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a device: its table, or why there is none; `notes` are failures that others made good."""

    device: str
    result: CollectResult | None
    failure: str | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as a JSON-serialisable mapping."""
        return {"failure": self.failure, "notes": list(self.notes), "result": None if self.result is None else self.result.to_dict()}


# --- where each device's measurements go ----------------------------------------------------------------------------------


def file_of(folder: Path, device: str) -> Path:
    """Return the latency table of a device in the folder of several."""
    return folder / f"{device}.lut"


def url_of(store: str, device: str) -> str:
    """Return the URL of a device's own schema: a schema holds one condition, so each device of a shared database has one.

    Its name is the device's, behind that of the schema which the URL names, if it does.
    """
    from sqlalchemy import make_url

    url = make_url(store)
    given = url.query.get("schema")
    name = re.sub(r"[^a-z0-9_]", "_", device.lower())
    schema = f"{given}_{name}" if given else f"_{name}" if name[0].isdigit() else name
    return url.update_query_dict({"schema": schema}).render_as_string(hide_password=False)


def collect_job(job: Job, agent: DeviceAgent, report: Report) -> CollectResult:
    """Measure what a job's place still lacks with an agent of its device; raises what `collect_table` does."""
    c = job.collection
    return collect_table(c.check(), agent, job.place, c.preset, c.seed, report, c.rounds, c.time_budget_s, c.thin)


def sentence(error: Exception) -> str:
    """Return what an error says, in one line; what nobody expects is named by its class."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    expected = isinstance(error, (ValueError, LookupError, OSError, ImportError, RuntimeError)) and type(error) not in (KeyError, IndexError)
    return text if text and expected else f"unexpected {type(error).__name__}: {text}"
