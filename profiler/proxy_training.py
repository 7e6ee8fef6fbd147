"""Accuracies of networks that share no weights, for a search: each is trained from scratch for a short while and judged.

After MnasNet (Tan et al., CVPR 2019). Every network starts from the same seed and sees the same images in the same order, so that
what accuracies differ by is the architecture. Each is kept in a store as soon as it is known, under a protocol that names the
training: a killed search goes on, and no network is trained twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from luts.accuracies import AccuracyProtocol, AccuracyRow
from luts.store import MeasurementStore
from profiler.accuracy import precision_on
from profiler.accuracy_workers import ENVIRONMENT, AccuracyWorkerError, environment
from profiler.proxy_worker import SPAWN, Hits, ProxyTask, prepare, train_and_judge
from supernets.space import Architecture, Population, SearchSpace
from supernets.training.data import ImageData, open_images
from supernets.training.phases import Recipe

__all__ = ["AccuracyWorkerError", "ProxyAccuracies", "proxy_protocol"]

Progress: TypeAlias = Callable[[int, int], None]  # networks whose accuracy is known, networks asked for
Figures: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def proxy_protocol(
    space: SearchSpace, images: ImageData, recipe: Recipe, seed: int = 0, validation_images: int = 1000, calibration_images: int = 2048,
    device: str = "cpu",
) -> AccuracyProtocol:  # fmt: skip
    """Return the protocol of networks each trained by the recipe; where others have a weights' digest, it has the training's.

    Raises:
        ValueError: there are too few images, or there is no such device.
    """
    for part, wanted in (("validation", validation_images), ("train", calibration_images)):
        have = len(getattr(images, f"{part}_labels"))
        if not 1 <= wanted <= have:
            raise ValueError(f"{wanted} {part} images of {images.name!r} were asked for; expected 1 to {have}")
    training = {"recipe": recipe.to_dict(), "seed": seed, "images": images.fingerprint}
    digest = hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()
    epochs = sum(phase.epochs for phase in recipe.phases)
    made = f"{precision_on(device)}; each trained from scratch by recipe {recipe.name}, {epochs:g} epochs, seed {seed}"
    dataset = f"{Path(images.name).name} validation {images.fingerprint[:12]}"
    return AccuracyProtocol(space.name, digest, dataset, validation_images, calibration_images, 0, made)


class ProxyAccuracies:
    """A function from populations to validation accuracies (shares of one), for `search.driver.search`; a context manager.

    `images` are named as `supernets.training.data.open_images` takes them, `recipe` is one of `supernets.training.static`. Up to
    `workers` processes of one thread train side by side; they are fresh ones, so a script that calls this does so under
    `if __name__ == "__main__":`. In `folder` (a temporary one by default) trainings that were stopped go on. `progress` is called
    with how many of a population's accuracies are known. Images that are to be decoded are so here, untold: `open_images` before, with a
    progress of its own, tells. `device` (cpu or cuda) is where networks are trained, in full precision, and judged; what a GPU finds
    is a protocol of its own.

    Raises:
        ValueError, OSError: the images are missing or not understood, or too few, or there is no such device.
    """

    def __init__(
        self, space: SearchSpace, images: str, store: MeasurementStore, recipe: Recipe, *, seed: int = 0, validation_images: int = 1000,
        calibration_images: int = 2048, workers: int = 2, folder: Path | None = None, progress: Progress | None = None,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        if workers < 1:
            raise ValueError(f"workers is {workers}; expected at least 1")
        self.protocol = proxy_protocol(space, open_images(images), recipe, seed, validation_images, calibration_images, device)
        self._space, self._store, self._workers, self._progress = space, store, workers, progress
        self._temporary = TemporaryDirectory()
        place = Path(self._temporary.name if folder is None else folder) / self.protocol.weights_sha256[:16]
        self._task = ProxyTask(space.name, images, recipe.to_dict(), seed, validation_images, calibration_images, str(place), device)
        self._known = {row.architecture: row for row in store.accuracies(self.protocol)}
        self._stop = SPAWN.Event()
        self._pool: ProcessPoolExecutor | None = None
        self.trained = 0

    def __enter__(self) -> ProxyAccuracies:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; what they were at is kept in the folder, if one was given."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._temporary.cleanup()

    def __call__(self, population: Population) -> Figures:
        """Return the accuracies, shape (n,); see `rows`."""
        return np.array([row.top1 for row in self.rows(self._space.decode(population))])

    def rows(self, architectures: Sequence[Architecture]) -> list[AccuracyRow]:
        """Return the rows of these architectures in their order; those not known yet are trained, judged and kept.

        Raises:
            ArchitectureError: the space has no such architecture.
            TrainingError: a training's loss became no number; what was known before is kept.
            AccuracyWorkerError: a process was killed; what was known before is kept.
            StoreFullError: the disk is full; what was stored is kept.
        """
        wanted = [self._space.architecture(architecture) for architecture in architectures]
        lacking = [architecture for architecture in dict.fromkeys(wanted) if architecture not in self._known]
        different = len(set(wanted))
        self._report(different - len(lacking), different)
        for number, (architecture, hits) in enumerate(self._trained(lacking), start=different - len(lacking) + 1):
            row = AccuracyRow(self.protocol, architecture, float(hits.mean()), np.packbits(hits).tobytes())
            self._store.add_accuracies(self.protocol, [(row.architecture, row.top1, row.hits)])
            self._known[architecture] = row
            self.trained += 1
            self._report(number, different)
        return [self._known[architecture] for architecture in wanted]

    def _trained(self, architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Hits]]:
        """Yield each architecture with which of the images it classifies rightly, as they come."""
        if not architectures:
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, SPAWN, prepare, (self._task, self._stop))
        made: dict[Future[Hits], Architecture] = {}
        failure: BaseException | None = None
        try:
            with environment(ENVIRONMENT):
                made.update((self._pool.submit(train_and_judge, dict(architecture.values)), architecture) for architecture in architectures)
            for future in as_completed(made):
                if not future.cancelled() and (error := future.exception()) is None:
                    yield made[future], future.result()
                elif not future.cancelled() and failure is None:
                    failure = error  # told when those that are being trained are known
                    _cancel(made)
        except BrokenProcessPool as error:
            failure = error
        finally:
            _cancel(made)
        if isinstance(failure, BrokenProcessPool):
            raise AccuracyWorkerError(
                "a process that trains networks was killed (often for lack of memory: use fewer workers); what was known is kept, the same call "
                "goes on from there"
            ) from None
        if failure is not None:
            raise failure

    def _report(self, known: int, asked: int) -> None:
        if self._progress is not None:
            self._progress(known, asked)


def _cancel(made: Iterable[Future[Hits]]) -> None:
    for future in made:
        future.cancel()
