"""Sampling accuracies with files: the workflow behind `profiler sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luts.store import MeasurementStore, StoreError
from profiler.collecting import narrowed
from supernets.space import Architecture
from supernets.spaces import space as search_space

if TYPE_CHECKING:
    from profiler.accuracy import AccuracySummary

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SampleResult:
    """A file of sampled accuracies, and what this call added to it."""

    path: Path
    space: str
    summary: AccuracySummary

    def sentence(self) -> str:
        """Return what was done, in one sentence."""
        summary, protocol = self.summary, self.summary.protocol
        images = f"{protocol.validation_images} held-out images each, {protocol.calibration_images} to calibrate norms"
        if not summary.measured:
            return f"nothing to do: {self.path} holds all {summary.present} accuracies asked for"
        before = f", {summary.present} were there before" if summary.present else ""
        return f"{summary.measured} subnets measured in {summary.seconds:.0f} s{before} ({images})"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-serialisable mapping."""
        return {**asdict(self), "path": str(self.path)}


def sample_into(
    out: Path,
    weights: Path,
    images: str,
    count: int,
    seed: int,
    workers: int,
    calibration_images: int,
    validation_images: int,
    resolutions: str | None,
    report: Report,
    device: str = "cpu",
) -> SampleResult:
    """Measure, on the device, what the file at `out` still lacks of `count` subnets' accuracies.

    Raises:
        ValueError, OSError: weights, images or the file are missing, of another kind, or do not fit together; or there is no such device.
        AccuracyWorkerError: a process failed or was killed; what arrived is kept.
    """
    from profiler.accuracy import sample_accuracies
    from supernets.networks.checkpoint import supernet_metadata
    from supernets.training.data import open_images
    from supernets.training.machine import Machine

    Machine(device)  # refuses one that is not there, before images are decoded
    space = narrowed(search_space(str(supernet_metadata(weights)["space"])), resolutions)
    data = open_images(images, progress=lambda done, total: report(done, total, "decoding images"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with MeasurementStore(out) as store:
        if store.condition() is not None:
            raise StoreError(f"{out} is a latency table; sample accuracies into a file of their own")
        summary = sample_accuracies(
            space,
            weights,
            data,
            store,
            count,
            seed,
            workers,
            calibration_images=calibration_images,
            validation_images=validation_images,
            progress=lambda done, total: report(done, total, ""),
            device=device,
        )
    return SampleResult(out, space.name, summary)


def accuracies_of(
    architectures: Sequence[Architecture], weights: Path, images: str, part: str, calibration_images: int, judged_images: int | None,
    device: str = "cpu",
) -> tuple[list[float], int]:  # fmt: skip
    """Return the measured accuracies of a few subnets on `part` (validation or test) of the images, and on how many images.

    Raises:
        ValueError, OSError, AccuracyWorkerError: see `profiler.accuracy.evaluate_architectures`.
    """
    from profiler.accuracy import evaluate_architectures
    from supernets.training.data import open_images

    space = search_space(architectures[0].space)
    rows = evaluate_architectures(
        space, weights, open_images(images), architectures, part=part, judged_images=judged_images, calibration_images=calibration_images, workers=1,
        device=device,
    )  # fmt: skip
    return [row.top1 for row in rows], rows[0].protocol.validation_images
