"""What a process does that trains networks for `profiler.proxy_training`: one after another, in one thread, until it is told to stop.

A process whose caller is gone ends by itself.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from supernets.space import Architecture, SearchSpace
    from supernets.training.data import ImageData

Hits: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
SPAWN = multiprocessing.get_context("spawn")
JUDGED_SEED = 0  # which of the validation images judge, where not all do; as of children of supernets


class Stopped(Exception):
    """The caller wants no more."""


@dataclass(frozen=True)
class ProxyTask:
    """What every process needs: names of space and images, the recipe as a mapping, the folder that stopped trainings are kept in, and the device."""

    space: str
    images: str
    recipe: Mapping[str, Any]
    seed: int
    validation_images: int
    calibration_images: int
    folder: str
    device: str = "cpu"


_given: list[tuple[ProxyTask, Event]] = []  # of this process, by `prepare`


def prepare(task: ProxyTask, stop: Event) -> None:
    """Begin a process: Ctrl-C is for the caller, and without the caller there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    _given[:] = [(task, stop)]


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


@cache
def _opened(space: str, images: str) -> tuple[SearchSpace, ImageData]:
    """Return the space and the images of these names; once a process."""
    import torch

    from supernets.spaces import space as search_space
    from supernets.training.data import open_images

    torch.set_num_threads(1)
    return search_space(space), open_images(images)


def train_and_judge(values: Mapping[str, Any]) -> Hits:
    """Train the architecture of these values, and return which of the judged images it classifies rightly, shape (n_images,).

    Raises:
        Stopped: the caller wants no more.
        TrainingError: the loss became no number.
    """
    ((task, stop),) = _given
    return trained_hits(task, values, stop.is_set)


def trained_hits(task: ProxyTask, values: Mapping[str, Any], stopped: Callable[[], bool]) -> Hits:
    """Return what `train_and_judge` does; `stopped` is asked after every step."""
    from supernets.training.machine import Machine
    from supernets.training.phases import Recipe
    from supernets.training.static import train_network

    space, images = _opened(task.space, task.images)
    architecture = space.architecture(values)
    folder = Path(task.folder) / hashlib.sha256(json.dumps(dict(architecture.values), sort_keys=True).encode()).hexdigest()[:24]

    def look(progress: Any) -> None:
        if stopped():
            raise Stopped

    recipe, machine = Recipe.from_dict(task.recipe), Machine(task.device)
    weights = train_network(space, architecture, images, recipe, folder, task.seed, threads=1, progress=look, machine=machine).weights
    hits = _judged(weights, architecture, images, task)
    shutil.rmtree(folder)
    return hits


def _judged(weights: Path, architecture: Architecture, images: ImageData, task: ProxyTask) -> Hits:
    from profiler.accuracy_workers import EvaluationTask
    from supernets.training.data import drawn, picked

    judged = drawn(len(images.validation_labels), task.validation_images, JUDGED_SEED)
    calibration, pixels = images.calibration_images(task.calibration_images), picked(images.validation_images, judged)
    _, evaluation = EvaluationTask(str(weights), calibration, pixels, images.validation_labels[judged], task.device).evaluation()
    ((_, hits),) = evaluation.hits([architecture])
    return hits
