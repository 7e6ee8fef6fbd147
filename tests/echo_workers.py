"""Workers that run no model (the runtime `echo`), what they can be made to do instead, and what is seen of them, whichever agent starts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device_agents import archive
from device_agents.base import DeviceAgent, Visit, VisitPlan

ALONE = [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1)]


def altered_archive(folder: Path, module: str, old: str, new: str) -> bytes:
    """Return the worker's archive with a part of its source replaced; `folder` must not exist yet."""
    folder.mkdir()
    for source in archive.ON_DEVICE.glob("*.py"):
        text = source.read_text()
        if source.name == module:
            assert old in text
            text = text.replace(old, new)
        (folder / source.name).write_text(text)
    return archive.pack(folder)


def misbehaving(folder: Path, body: str) -> bytes:
    """Return an archive whose echo runtime does something else when it runs a model."""
    lines = "".join(f"    {line}\n" for line in ("import os, signal, sys, time", *body.splitlines()))
    return altered_archive(folder, "runtime_echo.py", "def _nothing() -> None:\n    pass\n", f"def _nothing() -> None:\n{lines}")


def visits(agent: DeviceAgent, plans: Sequence[VisitPlan] = ALONE) -> list[Visit]:
    return list(agent.measure({"m": b"x"}, plans))


def worker_pid(visit: Visit) -> int:
    return int(visit.worker.partition("-")[0])
