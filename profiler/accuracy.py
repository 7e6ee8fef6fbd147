"""The sampled-accuracy data set: how accurate the children of a supernet are, each with its norms calibrated, kept in a store.

Every accuracy belongs to a protocol: weights, images, how many, precision. What a store holds under the same protocol is
never measured again; so a killed measurement goes on where it was, and a larger sample extends a smaller one.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from luts.accuracies import AccuracyProtocol, AccuracyRow
from luts.store import MeasurementStore
from profiler.accuracy_workers import AccuracyWorkerError, EvaluationTask, Results, evaluate_in_workers
from supernets.networks import prefix_tree
from supernets.networks.checkpoint import supernet_metadata, supernet_space
from supernets.space import Architecture, ArchitectureError, Population, SearchSpace
from supernets.training.data import ImageData, drawn, picked
from supernets.training.machine import Machine
from supernets.training.validation import BATCH_SIZE

__all__ = [
    "AccuracySummary", "AccuracyWorkerError", "evaluate_architectures", "precision_on", "protocol_of", "refuse_other_images", "sample_accuracies"
]  # fmt: skip

Progress: TypeAlias = Callable[[int, int], None]  # subnets whose accuracy is known, subnets in all
PARTS = ("validation", "test")  # of the image data, that accuracies can be measured on
PRECISION = f"float32, batches of {BATCH_SIZE}"  # the size decides the batches whose statistics normalise them
JUDGED_SEED = 0  # which images of a part judge, where not all do
PIECE = 64  # subnets a worker takes at a time: enough to share what they begin with, few enough for all to end together


@dataclass(frozen=True)
class AccuracySummary:
    """What a call did: subnets measured now, subnets that the store had already, seconds it took."""

    protocol: AccuracyProtocol
    measured: int
    present: int
    seconds: float


def sample_accuracies(
    space: SearchSpace, weights: str | Path, images: ImageData, store: MeasurementStore, count: int, seed: int = 0, workers: int = 2,
    calibration_images: int = 2048, validation_images: int = 1000, calibration_seed: int = 0, progress: Progress | None = None,
    device: str = "cpu",
) -> AccuracySummary:  # fmt: skip
    """Measure `count` different random subnets on held-out images into the store (all subnets, where the space has no more).

    Which subnets, is decided by `space`, `count` and `seed` alone; their results by the protocol alone, bit for bit: neither the number of
    workers nor interruptions change them. On a GPU (`device` cuda) one worker is all there is, and the protocol names that GPU. Workers are
    fresh processes, so a script that calls this does so under `if __name__ == "__main__":`.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: the weights are of another space or of another network alone, the images do not fit it, or there are too few of them;
            or there is no such device.
        AccuracyWorkerError: a process failed or was killed; what arrived is kept.
        StoreFullError: the disk is full; what was stored is kept.
    """
    start_s = time.monotonic()
    architectures = space.decode(space.sample_different(count, np.random.default_rng(seed)))
    protocol = protocol_of(space, weights, images, "validation", validation_images, calibration_images, calibration_seed, device)
    _refuse_absent(weights, architectures)
    task = _task(weights, images, "validation", protocol, device)
    _, measured = _measure(space, protocol, task, architectures, store, workers, progress)
    return AccuracySummary(protocol, measured, len(architectures) - measured, time.monotonic() - start_s)


def evaluate_architectures(
    space: SearchSpace, weights: str | Path, images: ImageData, architectures: Sequence[Architecture], store: MeasurementStore | None = None,
    part: str = "test", judged_images: int | None = None, workers: int = 2, calibration_images: int = 2048, calibration_seed: int = 0,
    progress: Progress | None = None, device: str = "cpu",
) -> list[AccuracyRow]:  # fmt: skip
    """Return the accuracies of these architectures, in their order, on images of a part of the image data: on all, or on so many.

    With a store, what it holds is not measured again, and what it lacks is kept in it as it comes.

    Raises:
        ArchitectureError: the space has no such architecture, or the weights are of another network alone.
        FileNotFoundError, ValueError, AccuracyWorkerError, StoreFullError: as for `sample_accuracies`.
    """
    canonical = [space.architecture(architecture) for architecture in architectures]
    protocol = protocol_of(space, weights, images, part, judged_images, calibration_images, calibration_seed, device)
    _refuse_absent(weights, canonical)
    found, _ = _measure(space, protocol, _task(weights, images, part, protocol, device), canonical, store, workers, progress)
    return [found[architecture] for architecture in canonical]


def protocol_of(
    space: SearchSpace, weights: str | Path, images: ImageData, part: str = "validation", judged_images: int | None = 1000,
    calibration_images: int = 2048, calibration_seed: int = 0, device: str = "cpu",
) -> AccuracyProtocol:  # fmt: skip
    """Return the protocol of accuracies on this many images (None: all) of a part, `validation` or `test`, of the image data.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: the weights are of another space, the images do not fit it, there are too few of them, or there is no such device.
    """
    precision = precision_on(device)
    if part not in PARTS:
        raise ValueError(f"part of the image data is {part!r}; expected one of {', '.join(PARTS)}")
    trained = supernet_metadata(weights).get("space")
    if trained != space.name:
        raise ValueError(f"weights {str(weights)!r} are of space {trained!r}, not {space.name!r}; give the space they were trained in")
    refuse_other_images(space, images)
    judged = len(getattr(images, f"{part}_labels")) if judged_images is None else judged_images
    for name, wanted in ((part, judged), ("train", calibration_images)):
        have = len(getattr(images, f"{name}_labels"))
        if not 1 <= wanted <= have:
            raise ValueError(f"{wanted} {name} images of {images.name!r} were asked for; expected 1 to {have}")
    dataset = f"{Path(images.name).name} {part} {images.fingerprint[:12]}"
    sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    return AccuracyProtocol(space.name, sha256, dataset, judged, calibration_images, calibration_seed, precision)


def refuse_other_images(space: SearchSpace, images: ImageData) -> None:
    """Do nothing where networks of the space take images such as these and tell as many classes.

    Raises:
        ValueError: they do not.
    """
    blocks = space.blocks(space.smallest())
    if (blocks[0].in_channels, blocks[-1].out_channels) != (images.channels, images.classes):
        raise ValueError(
            f"images {images.name!r} have {images.channels} channels and {images.classes} classes, but networks of space {space.name!r} "
            f"expect {blocks[0].in_channels} and {blocks[-1].out_channels}; give the images the weights were trained on"
        )


def precision_on(device: str) -> str:
    """Return how numbers are computed; a GPU rounds in its own way, so what it finds is a protocol of its own.

    Raises:
        ValueError: there is no such device.
    """
    return f"{PRECISION}, on {torch.cuda.get_device_name(device)}" if Machine(device).on_gpu else PRECISION


def _refuse_absent(weights: str | Path, architectures: Iterable[Architecture]) -> None:
    held = supernet_space(weights)
    if held.size() > 1:
        return  # a supernet's file holds every network of its space
    for architecture in architectures:
        try:
            held.architecture(architecture)
        except ArchitectureError as error:
            raise ArchitectureError(f"weights {str(weights)!r} are of one network alone, not of every subnet asked for: {error}") from None


def _task(weights: str | Path, images: ImageData, part: str, protocol: AccuracyProtocol, device: str = "cpu") -> EvaluationTask:
    pixels, labels = getattr(images, f"{part}_images"), getattr(images, f"{part}_labels")
    judged = drawn(len(labels), protocol.validation_images, JUDGED_SEED)
    calibration = picked(images.train_images, images.calibration_rows(protocol.calibration_images, protocol.calibration_seed))
    return EvaluationTask(str(weights), calibration, picked(pixels, judged), labels[judged], device)


def _measure(
    space: SearchSpace, protocol: AccuracyProtocol, task: EvaluationTask, architectures: Iterable[Architecture], store: MeasurementStore | None,
    workers: int, progress: Progress | None,
) -> tuple[dict[Architecture, AccuracyRow], int]:  # fmt: skip
    """Return the row of each architecture, from the store or measured into it, and how many were measured."""
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    workers = 1 if Machine(task.device).on_gpu else workers  # a GPU is kept busy by one; others would wait for it, and take its memory
    wanted = dict.fromkeys(architectures)
    found = {row.architecture: row for row in store.accuracies(protocol) if row.architecture in wanted} if store is not None else {}
    lacking = [architecture for architecture in wanted if architecture not in found]
    report = progress if progress is not None else lambda done, total: None
    report(len(found), len(wanted))
    with closing(evaluate_in_workers(task, _pieces(space, lacking, workers), workers)) as arriving:
        for results in arriving:
            rows = _rows(space, protocol, results)
            if store is not None:
                store.add_accuracies(protocol, [(row.architecture, row.top1, row.hits) for row in rows])
            found.update((row.architecture, row) for row in rows)
            report(len(found), len(wanted))
    return found, len(lacking)


def _pieces(space: SearchSpace, architectures: list[Architecture], workers: int) -> list[Population]:
    """Return the work as pieces of neighbours in tree order, the last first: those of high resolution take longest, and are spread best so."""
    ordered = prefix_tree.in_tree_order(space, architectures)
    paths = [prefix_tree.path(space, architecture) for architecture in ordered]
    size = max(1, min(PIECE, math.ceil(len(ordered) / (4 * workers))))
    population = space.encode(ordered)
    return [population[piece] for piece in prefix_tree.pieces(paths, size)][::-1]


def _rows(space: SearchSpace, protocol: AccuracyProtocol, results: Results) -> list[AccuracyRow]:
    architectures = space.decode(np.array([codes for codes, _ in results], dtype=np.int8))
    return [
        AccuracyRow(protocol, architecture, float(hits.mean()), np.packbits(hits).tobytes())
        for architecture, (_, hits) in zip(architectures, results, strict=True)
    ]
