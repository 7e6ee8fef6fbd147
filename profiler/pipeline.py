"""The whole job, stage by stage: collect, train, sample, fit, search, choose, export, verify, report.

Everything is kept in one folder. A stage whose inputs have not changed since it finished is skipped; one that was
killed goes on where it was. The folder:

    latency-<runtime>.lut   measured blocks and networks        accuracies.db    sampled accuracies
    training/               the supernet, when it is trained    predictors/      latency/, ridge/, mlp/, xgboost/
    search.json             what the search found               subnet/          models, subnet.json, verification-*.lut
    report.html             the report                          stages.json      which stages are finished
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from profiler.files import FileKindError, read_json, write_json
from search.settings import SearchSettings

STAGES = ("collect", "train", "sample", "fit", "search", "choose", "export", "verify", "report")


@dataclass(frozen=True)
class RunPreset:
    """How thoroughly a run does each stage."""

    protocol: str
    recipe: str
    samples: int
    validation_images: int
    calibration_images: int
    finalists: int
    search: SearchSettings


PRESETS = {
    # a quarter of an hour on two cores, installing included
    "demo": RunPreset("quick", "small", 600, 1000, 1024, 5, SearchSettings(generations=100, finalists=20)),
    # what the measurements in docs/ were made with
    "full": RunPreset("full", "small", 16_384, 1000, 2048, 10, SearchSettings(finalists=50)),
}


@dataclass(frozen=True)
class RunSettings:
    """What a user asks of a run; None takes what the space, the device or the preset say.

    Raises:
        ValueError: an unknown preset, no runtime, a budget that is no latency, or two sources of weights.
    """

    space: str
    out: Path
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

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; known presets: {', '.join(PRESETS)}")
        if self.weights is not None and self.train:
            raise ValueError(f"weights {self.weights} were given and training was asked for; give one of --weights and --train")
        if self.runtimes == ():
            raise ValueError("a run needs at least one runtime, such as onnxruntime")
        if self.max_latency_ms is not None and not (math.isfinite(self.max_latency_ms) and self.max_latency_ms > 0):
            raise ValueError(f"max_latency_ms is {self.max_latency_ms}; expected a positive number of milliseconds")

    @property
    def numbers(self) -> RunPreset:
        """The preset's numbers."""
        return PRESETS[self.preset]


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
