"""A run under way: its settings, what its stages found, and where their files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from device_agents.base import DeviceAgent
from device_agents.devices import connect, find_device
from luts.accuracies import AccuracyProtocol
from profiler.exporting import USUAL_FORMATS
from profiler.files import sha256_of
from profiler.measuring.models import WRITERS, file_precision
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
    formats: tuple[str, ...]  # to export
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
    def precision(self) -> str:
        """The precision of the models to export."""
        return precision_of(self.settings)

    @property
    def batch(self) -> int:
        """How many images the device is declared to take at a time."""
        return int(_declared(self.settings, "batch", 1))

    def agent(self, runtime: str | None) -> DeviceAgent:
        """Return an agent of the device with this runtime."""
        return _agent(self.settings, runtime)

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


def precision_of(settings: RunSettings) -> str:
    """Return the precision of the model files that the device is declared to measure.

    Raises:
        ValueError: no model files are made for the device's precision.
    """
    return file_precision(_declared(settings, "precision", "float32"))


def formats_of(settings: RunSettings) -> tuple[str, ...]:
    """Return the formats to export: those that the runtimes run, the usual ones where no runtime was asked for, and those that were asked for.

    Raises:
        ValueError, LookupError: there is no such device, it refuses a setting, or models of one of them are not made in its precision.
        ImportError: a package that the device or its runtime needs is missing.
    """
    found = dict.fromkeys(USUAL_FORMATS if settings.runtimes is None else (), "")
    for runtime in runtimes_of(settings):
        agent = _agent(settings, runtime)
        agent.close()
        found.setdefault(agent.model_format, f", which runtime {runtime!r} runs")
    found.update({name: found.get(name, "") for name in settings.formats})
    precision = precision_of(settings)
    for name, why in found.items():
        if name not in WRITERS[precision]:
            known = ", ".join(WRITERS[precision])
            raise ValueError(f"no {precision} models are made in format {name!r}{why}; expected {known}, or another precision")
    return tuple(name for name in WRITERS[precision] if name in found)


def _agent(settings: RunSettings, runtime: str | None) -> DeviceAgent:
    s = settings
    return connect(s.device, runtime=runtime, threads=s.threads, cores=s.cores, devices_file=s.devices_file, settings=s.device_settings)


def _declared(settings: RunSettings, setting: str, otherwise: Any) -> Any:
    return find_device(settings.device, settings.device_settings, settings.devices_file).settings.get(setting, otherwise)
