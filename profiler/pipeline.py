"""The whole job, stage by stage, for each of the systems (`profiler.systems`): what a user asks, and which stages are finished.

Everything is kept in one folder. A stage whose inputs have not changed since it finished is skipped; one that was
killed goes on where it was. The folder:

    latency-<runtime>.lut   measured blocks and networks        accuracies.db    measured accuracies
    training/               weights, when they are trained      predictors/      latency-<runtime>/, ridge/, mlp/, xgboost/
    search.json             what the search found               subnet/          models, subnet.json, verification-*.lut
    branches.json           that merged latencies are equal     stages.json      which stages are finished
    run.json                what the run is                     report.html      the report
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from profiler.files import FileKindError, read_json, write_json
from profiler.systems import CHILDREN, PREDICTED, PROXY, STAGES, Size, System, system
from search.rewards import OBJECTIVES
from search.settings import SearchSettings
from search.strategies import STRATEGIES

LATENCIES = ("lut", "device")  # where a search's latencies are from: the predictor fitted to the table, or each network measured


@dataclass(frozen=True)
class RunPreset:
    """How thoroughly a run does each stage; `size` is which of a system's spaces and recipes it takes.

    `searches` is by where accuracies are from: a prediction costs microseconds, a child's accuracy a tenth of a second, a
    training seconds to hours. `proxy_epochs` and `full_epochs` are of networks trained alone: to be compared, and to be deployed.
    """

    protocol: str
    size: str
    samples: int
    validation_images: int
    calibration_images: int
    finalists: int
    searches: Mapping[str, SearchSettings]
    proxy_epochs: float
    full_epochs: float


_MINUTES = {
    PREDICTED: SearchSettings(generations=100, finalists=20),
    CHILDREN: SearchSettings(population_size=80, generations=4, finalists=5),
    PROXY: SearchSettings(population_size=10, generations=6, finalists=5, controller_learning_rate=0.01),
}
_HOURS = {
    PREDICTED: SearchSettings(finalists=50),
    CHILDREN: SearchSettings(population_size=160, generations=10, finalists=10),
    PROXY: SearchSettings(population_size=20, generations=400, finalists=15),
}
_DEMO = RunPreset("quick", "tiny", 600, 1000, 1024, 5, _MINUTES, 0.5, 12)
PRESETS = {
    "demo": _DEMO,  # a quarter of an hour on two cores, installing included
    "tiny": _DEMO,  # the same, by the name of its size
    "full": RunPreset("full", "tiny", 16_384, 1000, 2048, 10, _HOURS, 2, 30),  # what the measurements in docs/ were made with
    "imagenet": RunPreset("full", "imagenet", 16_384, 10_000, 16_384, 15, _HOURS, 5, 350),  # on images of your own; training takes GPUs
}


@dataclass(frozen=True)
class RunSettings:
    """What a user asks of a run; None takes what the space, the device or the preset say.

    Raises:
        ValueError: an unknown preset, no runtime, a budget that is no latency, two sources of weights, or what the system does not do.
        UnknownSystemError: no system has that name.
    """

    space: str | None
    out: Path
    system: str = "ofa"
    device: str = "local"
    devices_file: Path | None = None
    runtimes: tuple[str, ...] | None = None  # the first one has the budget
    threads: int | None = None
    cores: tuple[int, ...] | None = None
    device_settings: Mapping[str, Any] = field(default_factory=dict)  # further ones, as in devices.toml
    preset: str = "demo"
    images: str | None = None
    weights: Path | None = None
    train: bool = False
    samples: int | None = None
    max_latency_ms: float | None = None
    workers: int = 2
    seed: int = 0
    resolutions: str | None = None
    formats: tuple[str, ...] = ()  # of models to export beside those that the runtimes need
    recipe: str | None = None
    strategy: str | None = None
    objective: str | None = None
    latency: str = "lut"
    training_device: str = "cpu"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; known presets: {', '.join(PRESETS)}")
        if self.weights is not None and self.train:
            raise ValueError(f"weights {self.weights} were given and training was asked for; give one of --weights and --train")
        if self.runtimes == ():
            raise ValueError("a run needs at least one runtime, such as onnxruntime")
        if self.max_latency_ms is not None and not (math.isfinite(self.max_latency_ms) and self.max_latency_ms > 0):
            raise ValueError(f"max_latency_ms is {self.max_latency_ms}; expected a positive number of milliseconds")
        self._check_system()

    def _check_system(self) -> None:
        own = system(self.system)
        if self.latency not in LATENCIES:
            raise ValueError(f"latency is {self.latency!r}; expected one of {', '.join(LATENCIES)}")
        for name, given in (("strategy", self.strategy), ("objective", self.objective)):
            known = STRATEGIES if name == "strategy" else OBJECTIVES
            if given is not None and given not in known:
                raise ValueError(f"{name} is {given!r}; expected one of {', '.join(sorted(known))}")
            if given is not None and not own.strategy:
                raise ValueError(f"{name} {given!r} was given, but system {self.system!r} searches while it trains and has none; leave it out")
        if self.latency != "lut" and not own.strategy:
            raise ValueError(f"latency {self.latency!r} was given, but system {self.system!r} searches while it trains; leave it out")
        if self.samples is not None and own.accuracy != PREDICTED:
            raise ValueError(f"{self.samples} samples were asked for, but system {self.system!r} fits no accuracy predictor; leave out --samples")
        if not own.trains and (self.weights is not None or self.train or self.recipe is not None):
            raise ValueError(f"system {self.system!r} has no supernet: each network is trained alone; leave out --weights, --train and --recipe")
        if self.recipe is not None and not self.train and (self.weights is not None or self.system == "ofa"):
            weights, train = ("come with the package", "add --train") if self.weights is None else ("are given", "give --train in place of --weights")
            raise ValueError(f"recipe {self.recipe!r} was given, but nothing is trained, as weights {weights}; {train}, or leave --recipe out")

    @property
    def numbers(self) -> RunPreset:
        """The preset's numbers."""
        return PRESETS[self.preset]

    @property
    def what(self) -> System:
        """The system, with the strategy and the objective that were asked for in the place of its own."""
        own = system(self.system)
        return replace(own, strategy=self.strategy or own.strategy, objective=self.objective or own.objective)

    @property
    def size(self) -> Size:
        """The space, recipe and images: those asked for, or the system's for this preset."""
        own = system(self.system).sizes[self.numbers.size]
        return Size(self.space or own.space, self.recipe or own.recipe, self.images or (own.images if self.space in (None, own.space) else ""))

    @property
    def search_settings(self) -> SearchSettings:
        """How long and how wide the search looks."""
        return self.numbers.searches[self.what.accuracy]


class Display(Protocol):
    """How a run shows what it does."""

    def stage(self, number: int, of: int, name: str) -> AbstractContextManager[Callable[[int, int, str], None]]:
        """Show a stage; yields report(done, total, note)."""

    def say(self, text: str) -> None:
        """Show one line about the stage."""


@dataclass
class StageLog:
    """Which stages are finished, with a digest of what went into each."""

    path: Path
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> StageLog:
        """Return the log of a run's folder, empty for a new one."""
        path = folder / "stages.json"
        if not path.exists():
            return cls(path)
        found = read_json(path)
        if not isinstance(found, dict) or not set(found) <= set(STAGES):
            raise FileKindError(f"{path} is not a list of a run's stages; give the run another folder, or remove that file")
        return cls(path, found)

    def finished(self, stage: str, digest: str, *outputs: Path) -> bool:
        """Return whether the stage finished with these inputs, and what it wrote is still there."""
        return self.digests.get(stage) == digest and all(output.exists() for output in outputs)

    def begin(self, stage: str) -> None:
        """Note that the stage's files are about to change: neither it nor a later one counts as finished any more."""
        kept = {name: digest for name, digest in self.digests.items() if STAGES.index(name) < STAGES.index(stage)}
        if kept != self.digests:
            self.digests = kept
            write_json(self.path, kept)

    def finish(self, stage: str, digest: str) -> None:
        """Note that the stage finished."""
        self.digests[stage] = digest
        write_json(self.path, self.digests)


def digest(*parts: Any) -> str:
    """Return a digest of a stage's inputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
