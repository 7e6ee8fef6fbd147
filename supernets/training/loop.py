"""The one training loop: it runs a recipe's phases on a supernet, keeps its progress, and goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets.networks.branches import has_branches
from supernets.networks.checkpoint import CheckpointError, save_supernet, supernet_metadata
from supernets.space import SearchSpace
from supernets.training.data import ImageData
from supernets.training.machine import Machine
from supernets.training.phases import Recipe
from supernets.training.run import Run
from supernets.training.state import CHECKPOINT_FILE, TrainingError, is_count, is_finished, locked, read_state, refuse_others, write_state

SUPERNET_FILE = "supernet.safetensors"
CHECKPOINT_SHARE = 0.01  # of the time that goes into checkpoints, unless the last was
LONGEST_S = 60.0  # ago


@dataclass(frozen=True)
class Start:
    """Weights to begin from in the place of fresh ones: a supernet's tensors, and what a training's settings say of them."""

    tensors: Mapping[str, Tensor]
    sha256: str
    weight_scale: float = 1.0  # of weights before norms, see `networks.ofa_checkpoint`


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is, after a step."""

    step: int
    steps: int
    phase: str
    loss: float
    images_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class TrainSummary:
    """What `train` did: `trained_steps` of `steps` in this call, the others before; 0 if the folder's training was finished."""

    weights: Path
    steps: int
    trained_steps: int
    already_finished: bool
    seconds: float
    history: tuple[Mapping[str, Any], ...]  # one entry a phase: its name, steps, mean loss, and the accuracy of its corners


def train(
    space: SearchSpace, images: ImageData, recipe: Recipe, folder: str | Path, seed: int = 0, threads: int = 1,
    progress: Callable[[TrainProgress], None] | None = None, *, checkpoint_s: float = 2.0, checkpoint_steps: int | None = None,
    provenance: Mapping[str, Any] | None = None, clock: Callable[[], float] = time.monotonic, machine: Machine | None = None,
    start: Start | None = None, facts: Mapping[str, Any] | None = None,
) -> TrainSummary:  # fmt: skip
    """Train a supernet of `space` by the recipe and write `supernet.safetensors` into the folder.

    Progress is kept in the folder every `checkpoint_s` seconds; less often, up to LONGEST_S, where writing it takes more
    than CHECKPOINT_SHARE of the time; and every `checkpoint_steps` steps, if given. The same call goes on from there, and
    does nothing if the training was finished. `provenance` (such as the command) goes into
    the metadata, and so do `facts`. Of several processes (`machine.group`) each calls this; the first writes, so all must see one folder.

    Raises:
        TrainingError: images and space do not fit, the folder holds another training, or the loss is no number any more.
        CheckpointError: a file in the folder is damaged.
    """
    started, folder, machine = clock(), Path(folder), machine or Machine()
    settings = _settings(space, images, recipe, seed, start)
    group = machine.group
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) if group.first else nullcontext(), _threads(threads):
        weights = folder / SUPERNET_FILE
        if weights.exists():
            metadata = supernet_metadata(weights)
            refuse_others(weights, metadata.get("settings", {}), settings)
            steps, history = _made_in(weights, metadata)
            group.wait()
            if group.first:
                (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            return TrainSummary(weights, steps, 0, True, clock() - started, history)
        run = Run(space, images, recipe, seed, machine, None if start is None else start.tensors, 1.0 if start is None else start.weight_scale)
        saved = read_state(folder, settings)
        if saved is not None:
            run.restore(saved, folder / CHECKPOINT_FILE)
        group.wait()
        first_step, first_work, saved_s, writing_s = run.step, run.work_done(), started, 0.0
        while run.step < run.steps:
            step_started = clock()
            loss = run.advance()
            now = clock()
            if progress is not None and group.first:
                rate = (run.work_done() - first_work) / max(now - started, 1e-9)
                speed = recipe.batch_size / max(now - step_started, 1e-9)
                progress(TrainProgress(run.step, run.steps, run.phase_name, loss, speed, (run.work - run.work_done()) / max(rate, 1e-9)))
            due = now - saved_s >= max(checkpoint_s, min(writing_s / CHECKPOINT_SHARE, LONGEST_S))
            if group.first and (due or (checkpoint_steps is not None and run.step % checkpoint_steps == 0)):
                begun_s = clock()
                write_state(folder, run.state(), settings)
                saved_s = clock()
                writing_s = saved_s - begun_s
        if group.first:
            origin = {"images": images.name, "threads": threads, "torch": torch.__version__, **(provenance or {})}
            metadata = {
                "settings": settings,
                "steps": run.steps,
                "history": run.history,
                "provenance": origin,
                **run.supernet_facts(),
                **(facts or {}),
            }
            save_supernet(weights, run.supernet, metadata)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        group.wait()
        return TrainSummary(weights, run.steps, run.steps - first_step, False, clock() - started, tuple(run.history))


def _made_in(path: Path, metadata: Mapping[str, Any]) -> tuple[int, tuple[Mapping[str, Any], ...]]:
    """Return in how many steps a finished training made its file, and its history.

    Raises:
        CheckpointError: the file does not say.
    """
    steps, history = metadata.get("steps"), metadata.get("history")
    if not (is_count(steps) and isinstance(history, list) and is_finished(history)):
        raise CheckpointError(f"file {str(path)!r} does not say how its training went (steps {steps!r}); move it elsewhere to train anew")
    return steps, tuple(history)


def _settings(space: SearchSpace, images: ImageData, recipe: Recipe, seed: int, start: Start | None) -> dict[str, Any]:
    """Return what makes two trainings the same, JSON-serialisable.

    Raises:
        TrainingError: the images do not fit the space, or are too few for a batch.
    """
    blocks = space.blocks(space.largest())
    needed = f"image_channels={blocks[0].in_channels},classes={blocks[-1].out_channels}"
    given = f"image_channels={images.channels},classes={images.classes}"
    if needed != given:
        raise TrainingError(f"images {images.name!r} have {given}, space {space.name!r} has {needed}; choose the space's options accordingly")
    if has_branches(space) != (recipe.branches is not None):
        has, trains = ("has", "trains none") if recipe.branches is None else ("has no", "trains some")
        raise TrainingError(f"space {space.name!r} {has} branches to choose, recipe {recipe.name!r} {trains}; choose a recipe for this space")
    count = len(images.train_images)
    if count < recipe.batch_size:
        raise TrainingError(f"{count} training images are less than a batch of {recipe.batch_size}; use more images or a smaller batch")
    begun = {} if start is None else {"start_sha256": start.sha256}
    return {"space": space.name, "seed": seed, "recipe": recipe.to_dict(), "images_sha256": images.fingerprint, **begun}


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
