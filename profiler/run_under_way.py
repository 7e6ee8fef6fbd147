"""A run under way: its settings, what its stages found, and where their files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from device_agents.base import DeviceAgent
from device_agents.devices import connect, find_device
from luts.accuracies import AccuracyProtocol
from profiler.exporting import RUNTIME_OF
from profiler.files import sha256_of
from profiler.pipeline import Display, RunSettings, StageLog
from profiler.systems import System
from supernets.space import SearchSpace

Report: TypeAlias = Callable[[int, int, str], None]


@dataclass
class Run:
    """The state that stages hand on; see `profiler.pipeline` for the folder."""

    settings: RunSettings
    display: Display
    log: StageLog
    space: SearchSpace
    runtimes: tuple[str | None, ...]
    weights: Path = Path()
    images: str = ""
    weights_from: str = ""  # where the weights are from, in words; empty where they are to be trained
    protocol: AccuracyProtocol | None = None
    chosen_accuracy: str = ""

    @property
    def system(self) -> System:
        """The system, with what was asked for in the place of its own strategy and objective."""
        return self.settings.what

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.settings.out

    @property
    def subnet_file(self) -> Path:
        """The file of the chosen network."""
        return self.folder / "subnet" / "subnet.json"

    def table(self, runtime: str | None) -> Path:
        """Return the place of a runtime's latency table."""
        return self.folder / f"latency-{runtime or 'device'}.lut"

    def latency_predictor(self, runtime: str | None) -> Path:
        """Return the folder of the latency predictor fitted to a runtime's table."""
        return self.folder / "predictors" / f"latency-{runtime or 'device'}"

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats to export: those that the runtimes run, all where no runtime was asked for, and those that were asked for."""
        asked = self.settings.formats
        return tuple(name for name, runtime in RUNTIME_OF.items() if self.settings.runtimes is None or runtime in self.runtimes or name in asked)

    def agent(self, runtime: str | None) -> DeviceAgent:
        """Return an agent of the device with this runtime."""
        s = self.settings
        return connect(s.device, runtime=runtime, threads=s.threads, cores=s.cores, devices_file=s.devices_file, settings=s.device_settings)

    def table_digests(self) -> list[str]:
        """Return what the tables' contents are known by."""
        return [sha256_of(self.table(runtime)) for runtime in self.runtimes]


def runtimes_of(settings: RunSettings) -> tuple[str | None, ...]:
    """Return the runtimes to measure, the one with the budget first: both of this machine; (None,), the device's own one, of another device."""
    if settings.runtimes is not None:
        return settings.runtimes
    device = find_device(settings.device, settings.device_settings, settings.devices_file)
    if device.transport != "local":
        return (None,)
    return tuple(sorted(("onnxruntime", "litert"), key=lambda runtime: runtime != device.settings.get("runtime")))
