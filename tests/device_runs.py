"""The tool as users call it, on a device that tests run: what is typed, and what must come of it whatever the device is."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import profiler.pipeline
import profiler.verifying
from luts.store import MeasurementStore
from luts.table import LatencyTable
from profiler.cli.main import run as profiler_command
from profiler.measuring import settings
from profiler.subnet import SubnetRecord, read_subnet
from search.settings import SearchSettings
from supernets.places import distinct_blocks
from supernets.spaces import space

SPACE, RESOLUTION = "ofa-mobilenetv3-tiny", 20
SMALL = space(SPACE).restrict({"resolution": (RESOLUTION,)})
FEW = replace(
    settings.PRESETS["quick"], rounds=2, most_rounds=2, alone_visits=1, alone_runs=2, alone_warmup=1, chain_visits=1, chain_cycles=2, chain_warmup=1,
    network_visits=1, network_runs=2, network_warmup=1, calibration_networks=6, held_out_networks=4, min_call_us=1,
)  # fmt: skip
COMMAND = [sys.executable, str(Path(__file__).with_name("device_runs_command.py"))]  # `profiler` as a program, with presets that measure little


def measure_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the presets do all that they do, with few visits and few images: what is tested is the way, not the figures."""
    monkeypatch.setitem(settings.PRESETS, "quick", FEW)
    short = SearchSettings(population_size=20, generations=3, finalists=3)
    demo = profiler.pipeline.PRESETS["demo"]
    less = replace(demo, validation_images=100, calibration_images=256, finalists=2, searches={**demo.searches, "predicted": short})
    monkeypatch.setitem(profiler.pipeline.PRESETS, "demo", less)
    for name, value in (("ROUNDS", 2), ("FEWEST_VISITS", 1), ("MOST_VISITS", 1), ("RUNS", 2), ("WARMUP_RUNS", 1)):
        monkeypatch.setattr(profiler.verifying, name, value)


def declare(folder: Path, **devices: dict[str, Any]) -> None:
    """Write a devices.toml."""
    tables = ("\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in device.items())]) for name, device in devices.items())
    (folder / "devices.toml").write_text("\n\n".join(tables) + "\n")


def typed(capsys: pytest.CaptureFixture[str], *words: object, ends_with: int | tuple[int, ...] = 0) -> tuple[str, str]:
    """Type a command; returns what it printed, both streams, after looking at its exit code, one of those expected."""
    capsys.readouterr()
    code = profiler_command([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code in (ends_with if isinstance(ends_with, tuple) else (ends_with,)), (words, out, err)
    assert "Traceback" not in out + err
    return out, err


def refused(capsys: pytest.CaptureFixture[str], *words: object, ends_with: int) -> str:
    """Type a command that must fail in one line, which is returned."""
    _, err = typed(capsys, *words, ends_with=ends_with)
    assert err.count("\n") == 1 and err.startswith("profiler: "), err
    return err


def assert_table(path: Path, modes: tuple[str, ...], **condition: Any) -> None:
    """Hold a table against what every device's must be: all blocks of the space, under the condition that names the device."""
    blocks = {block.key for block in distinct_blocks(SMALL)}
    for mode in modes:
        table = LatencyTable.open(path, mode)
        assert set(table.entries) == blocks
        assert all(entry.latency_ms > 0 and entry.origin == "measured" for entry in table.entries.values())
    with MeasurementStore(path, read_only=True) as store:
        found = store.condition()
        assert found is not None and {key: getattr(found, key) for key in condition} == condition


def whole_run(capsys: pytest.CaptureFixture[str], device: str, out: Path, *words: object, accuracies: Path | None = None) -> SubnetRecord:
    """Do the whole job on a device, and once more when it is done; returns the verified subnet's record.

    `accuracies` is a file of sampled ones to take, or to leave for the next run: they do not depend on the device.
    """
    out.mkdir()
    if accuracies is not None and accuracies.exists():
        shutil.copy(accuracies, out / "accuracies.db")
    command = ("run", "--device", device, "--space", SPACE, "--resolutions", RESOLUTION, "--samples", 50, "--workers", 1, "--out", out, *words)
    # A verification over the budget is exit code 1; it is a latency of this moment, which is not what is tested.
    command += () if "--max-latency-ms" in words else ("--max-latency-ms", 1000)
    shown, _ = typed(capsys, *command)
    assert str(out / "report.html") in shown
    if accuracies is not None and not accuracies.exists():
        shutil.copy(out / "accuracies.db", accuracies)
    visits = {table.name: visits_of(table) for table in out.rglob("*.lut")}
    typed(capsys, *command)
    assert {table.name: visits_of(table) for table in out.rglob("*.lut")} == visits, "a finished run measures nothing again"
    record = read_subnet(out / "subnet" / "subnet.json")
    assert "<html" in (out / "report.html").read_text() and device in (out / "report.html").read_text()
    assert record.verifications and record.measured_accuracy is not None
    return record


def visits_of(path: Path) -> list[tuple[str, str]]:
    """Return all visits in a store with the subject of each row, sorted; one made twice is there twice."""
    with MeasurementStore(path, read_only=True) as store:
        return sorted(
            (visit.plan_id, subject.key)
            for kind in ("block", "network")
            for subject, visit, _ in store.samples(kind, include_discarded=True)
        )  # fmt: skip
