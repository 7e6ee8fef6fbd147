"""The one training loop: it runs a recipe's phases on a supernet, and goes on where it was stopped.

A step: augment a batch; for each of the phase's children forward, loss, backward; then one optimiser step on the summed
gradients, and one of the gates that drew its branches, if they learn. Everything random is derived from (seed, step), so a
run stopped at any moment and started again ends with the same bits as an undisturbed one (same machine, versions and
number of threads).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.counts import macs
from supernets.networks.branched import BranchedSupernet, branched_forward
from supernets.networks.branches import branched_slices, has_branches, kept_branches
from supernets.networks.checkpoint import CheckpointError, check_tensors, save_supernet, supernet_metadata
from supernets.networks.functional import batch_norm, forward
from supernets.networks.slicing import child_tensors
from supernets.networks.sorting import sorted_channels
from supernets.networks.supernet import Supernet
from supernets.space import Architecture, SearchSpace
from supernets.training.data import ImageData
from supernets.training.images import augmented, network_input
from supernets.training.phases import Phase, Recipe
from supernets.training.repnas_sampler import KINDS, BranchSampler, Drawn, kinds_of
from supernets.training.state import CHECKPOINT_FILE, TrainingError, TrainState, locked, read_state, refuse_others, write_state
from supernets.training.validation import accuracy

SUPERNET_FILE = "supernet.safetensors"
ORDER, AUGMENTATION, RESOLUTION, CHILD, DROPOUT = range(5)  # streams of random numbers
VALIDATION_IMAGES = 2000  # at most, after each phase
CALIBRATION_IMAGES = 2048


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
    progress: Callable[[TrainProgress], None] | None = None, *, checkpoint_s: float = 60.0, checkpoint_steps: int | None = None,
    provenance: Mapping[str, Any] | None = None, clock: Callable[[], float] = time.monotonic,
) -> TrainSummary:  # fmt: skip
    """Train a supernet of `space` by the recipe and write `supernet.safetensors` into the folder.

    Progress is kept in the folder every `checkpoint_s` seconds (and every `checkpoint_steps` steps, if given): the same
    call goes on from there, and does nothing if the training was finished. `provenance` (such as the command) goes into
    the metadata.

    Raises:
        TrainingError: images and space do not fit, the folder holds another training, or the loss is no number any more.
        CheckpointError: a file in the folder is damaged.
    """
    started, folder = clock(), Path(folder)
    settings = _settings(space, images, recipe, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), _threads(threads):
        weights = folder / SUPERNET_FILE
        if weights.exists():
            metadata = supernet_metadata(weights)
            refuse_others(weights, metadata.get("settings", {}), settings)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            return TrainSummary(weights, metadata["steps"], 0, True, clock() - started, tuple(metadata["history"]))
        run = _Run(space, images, recipe, seed)
        saved = read_state(folder, settings)
        if saved is not None:
            run.restore(saved, folder / CHECKPOINT_FILE)
        first_step, first_work, last_saved = run.step, run.work_done(), started
        while run.step < run.steps:
            step_started = clock()
            loss = run.advance()
            now = clock()
            if progress is not None:
                rate = (run.work_done() - first_work) / max(now - started, 1e-9)
                speed = recipe.batch_size / max(now - step_started, 1e-9)
                progress(TrainProgress(run.step, run.steps, run.phase_name, loss, speed, (run.work - run.work_done()) / max(rate, 1e-9)))
            if now - last_saved >= checkpoint_s or (checkpoint_steps is not None and run.step % checkpoint_steps == 0):
                write_state(folder, run.state(), settings)
                last_saved = clock()
        origin = {"images": images.name, "threads": threads, "torch": torch.__version__, **(provenance or {})}
        metadata = {"settings": settings, "steps": run.steps, "history": run.history, "provenance": origin, **run.supernet_facts()}
        save_supernet(weights, run.supernet, metadata)
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return TrainSummary(weights, run.steps, run.steps - first_step, False, clock() - started, tuple(run.history))


def _settings(space: SearchSpace, images: ImageData, recipe: Recipe, seed: int) -> dict[str, Any]:
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
    return {"space": space.name, "seed": seed, "recipe": recipe.to_dict(), "images_sha256": images.fingerprint}


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """A training in progress: `advance` makes the next step."""

    def __init__(self, space: SearchSpace, images: ImageData, recipe: Recipe, seed: int) -> None:
        self.space, self.images, self.recipe, self.seed = space, images, recipe, seed
        self._sampler = None if recipe.branches is None else BranchSampler(space, recipe.branches, seed)
        if recipe.branches is None:
            self.supernet = Supernet(space, recipe.kernel_transform, seed)
        else:
            self.supernet = BranchedSupernet(space, recipe.branches.own_weights, recipe.kernel_transform, seed)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self._tensors = self.supernet.tensors()
        self._teacher: dict[str, Tensor] = {}
        self._steps_per_epoch = len(images.train_images) // recipe.batch_size
        self._lengths = [phase.steps(self._steps_per_epoch) for phase in recipe.phases]
        self._ends = np.cumsum(self._lengths).tolist()
        self._spaces = [phase.space(space) for phase in recipe.phases]
        self._loss_sum = 0.0
        self._optimiser = self._new_optimiser()

    @property
    def steps(self) -> int:
        """All steps of the recipe."""
        return int(self._ends[-1])

    @property
    def phase_name(self) -> str:
        """The phase of the last step made."""
        return self.recipe.phases[self._phase_of(max(0, self.step - 1))].name

    def _phase_of(self, step: int) -> int:
        return next(number for number, end in enumerate(self._ends) if step < end)

    def supernet_facts(self) -> dict[str, Any]:
        """Return what the supernet's file must say to be read, beyond what every one does."""
        return {} if self.recipe.branches is None else {"own_branch_weights": self.recipe.branches.own_weights}

    # --- keeping and restoring ----------------------------------------------------------------------------------------

    def state(self) -> TrainState:
        """Return what `restore` needs; the tensors are the live ones."""
        kept = self._optimiser.state
        momentum = {name: kept[tensor]["momentum_buffer"] for name, tensor in self._tensors.items() if tensor in kept}
        gates = {} if self._sampler is None else self._sampler.state()
        return TrainState(self.step, self._tensors, momentum, self._teacher, gates, [*self.history, {"loss_sum": self._loss_sum}])

    def restore(self, saved: TrainState, path: Path) -> None:
        """Go to a kept state.

        Raises:
            CheckpointError: its tensors are not those of this supernet.
        """
        check_tensors(path, saved.weights, self._tensors)
        for part in (saved.momentum, saved.teacher):
            if not set(part) <= set(self._tensors) or any(tensor.shape != self._tensors[name].shape for name, tensor in part.items()):
                raise CheckpointError(f"file {str(path)!r} holds tensors of another supernet; remove it to begin anew")
        self._load(saved.weights)
        for name, tensor in saved.momentum.items():
            self._optimiser.state[self._tensors[name]]["momentum_buffer"] = tensor
        if self._sampler is not None:
            try:
                self._sampler.restore(saved.gates)
            except ValueError as error:
                raise CheckpointError(f"file {str(path)!r} holds gates of another training ({error}); remove it to begin anew") from None
        self._teacher = saved.teacher
        self.step = saved.step
        self._loss_sum = saved.history[-1]["loss_sum"]
        self.history = saved.history[:-1]

    @torch.no_grad()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            tensor.copy_(tensors[name])

    # --- steps --------------------------------------------------------------------------------------------------------

    def advance(self) -> float:
        """Make the next step, with what belongs to a phase's beginning and end, and return the children's mean loss.

        Raises:
            TrainingError: the loss is no finite number.
        """
        number = self._phase_of(self.step)
        phase, local = self.recipe.phases[number], self.step - self._ends[number] + self._lengths[number]
        if local == 0:
            self._begin(number)
        for group in self._optimiser.param_groups:
            group["lr"] = phase.learning_rate_at(local, self._steps_per_epoch)
        loss = self._learn(phase, self._spaces[number], number, local)
        if not np.isfinite(loss):
            where = f"at step {self.step}, in phase {phase.name!r}"
            raise TrainingError(f"the loss became {loss} {where}; expected a number, so lower the phase's learning_rate, {phase.learning_rate}")
        self._loss_sum += loss
        self.step += 1
        if self.step == self._ends[number]:
            self._end(number)
        return loss

    def _begin(self, number: int) -> None:
        phase = self.recipe.phases[number]
        if phase.teacher == "phase_start" or (phase.teacher == "full_network" and not self._teacher):
            largest = child_tensors(self.space.blocks(self.space.largest()), self._tensors)
            self._teacher = {name: tensor.detach().clone() for name, tensor in largest.items()}
        if "sort_channels" in phase.actions:
            with torch.no_grad():
                self._load(sorted_channels(self._tensors, self.space, self._spaces[max(0, number - 1)]))
        self._optimiser = self._new_optimiser()
        self._loss_sum = 0.0

    def _end(self, number: int) -> None:
        space, data = self._spaces[number], self.images
        shown = (data.validation_images[:VALIDATION_IMAGES], data.validation_labels[:VALIDATION_IMAGES], data.calibration_images(CALIBRATION_IMAGES))
        corners = {"largest": space.largest(), "smallest": space.smallest()}
        entry: dict[str, Any] = {}
        if self._sampler is not None and {"gated", "chosen"} & set(self.recipe.phases[number].children):
            corners = {"chosen": self._sampler.chosen()}
            entry["architecture"] = dict(corners["chosen"].values)
        top1 = {name: accuracy(self.space, self._tensors, corner, *shown) for name, corner in corners.items()}
        loss = self._loss_sum / self._lengths[number]
        name = self.recipe.phases[number].name
        self.history.append({"phase": name, "steps": self._lengths[number], "mean_loss": loss, "validation_top1": top1, **entry})

    def _new_optimiser(self) -> torch.optim.SGD:
        decayed = [tensor for name, tensor in self._tensors.items() if tensor.ndim > 1]
        plain = [tensor for name, tensor in self._tensors.items() if tensor.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.SGD(groups, lr=0.1, momentum=self.recipe.momentum, nesterov=True, foreach=True)

    def _rng(self, stream: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, *numbers])

    def _batch(self, number: int, local: int) -> tuple[np.ndarray[Any, Any], Tensor]:
        epoch, place = divmod(local, self._steps_per_epoch)
        order = self._order(number, epoch)
        rows = order[place * self.recipe.batch_size : (place + 1) * self.recipe.batch_size]
        pixels = augmented(self.images.train_images[rows], self._rng(AUGMENTATION, self.step), self.recipe.crop_padding, self.recipe.flip)
        return pixels, torch.from_numpy(self.images.train_labels[rows])

    def _order(self, number: int, epoch: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the epoch's order of the training images; kept until another one is asked for."""
        if getattr(self, "_order_of", None) != (number, epoch):
            self._order_of, self._kept_order = (number, epoch), self._rng(ORDER, number, epoch).permutation(len(self.images.train_images))
        return self._kept_order

    def _children(self, phase: Phase, space: SearchSpace) -> Iterator[Drawn]:
        """Yield the step's children, drawn from (seed, step, child)."""
        sides = next((choice.allowed for choice in space.choices if choice.name == "resolution"), ())
        shared = self._rng(RESOLUTION, self.step).choice(sides) if len(sides) and phase.resolution == "shared" else None
        for i, kind in enumerate(phase.children):
            rng = self._rng(CHILD, self.step, i)
            if self._sampler is not None and kinds_of([kind]):
                drawn = self._sampler.draw(kind, rng)
            else:
                drawn = Drawn(space.sample(rng) if kind == "random" else space.largest() if kind == "largest" else space.smallest())
            if shared is not None:
                drawn.architecture = space.architecture({**drawn.architecture.values, "resolution": int(shared)})
            yield drawn

    def _learn(self, phase: Phase, space: SearchSpace, number: int, local: int) -> float:
        pixels, labels = self._batch(number, local)
        self._optimiser.zero_grad(set_to_none=True)
        inputs: dict[int, Tensor] = {}
        targets: dict[int, Tensor] = {}
        total = 0.0
        for i, drawn in enumerate(self._children(phase, space)):
            child = drawn.architecture
            blocks = self.space.blocks(child)
            side = blocks[0].input_side
            if side not in inputs:
                inputs[side] = network_input(pixels, side)
            logits = self._logits(drawn, blocks, inputs[side], phase.dropout, i)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
            if phase.teacher != "none":
                if side not in targets:
                    targets[side] = self._taught(child, inputs[side])
                loss = loss + phase.distillation_ratio * F.cross_entropy(logits, targets[side])
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if self.recipe.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._tensors.values(), self.recipe.gradient_norm)
        self._optimiser.step()
        if self._sampler is not None:
            self._sampler.learn(local / self._lengths[number])
        return total / len(phase.children)

    def _logits(self, drawn: Drawn, blocks: list[Any], x_NCHW: Tensor, dropout: float, child: int) -> Tensor:
        if not dropout:
            return self._forward(drawn, blocks, x_NCHW, dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self._rng(DROPOUT, self.step, child).integers(2**63)))
            return self._forward(drawn, blocks, x_NCHW, dropout)

    def _forward(self, drawn: Drawn, blocks: list[Any], x_NCHW: Tensor, dropout: float) -> Tensor:
        if self._sampler is None:
            return forward(blocks, x_NCHW, child_tensors(blocks, self._tensors), batch_norm, dropout)
        kept = kept_branches(blocks, drawn.architecture)
        return branched_forward(blocks, x_NCHW, branched_slices(blocks, self._tensors, kept), kept, batch_norm, drawn.gates, dropout)

    @torch.no_grad()
    def _taught(self, child: Architecture, x_NCHW: Tensor) -> Tensor:
        """Return the teacher's class probabilities at the child's resolution."""
        values = dict(self.space.largest().values)
        if "resolution" in values:
            values["resolution"] = child["resolution"]
        return forward(self.space.blocks(self.space.architecture(values)), x_NCHW, self._teacher, batch_norm).softmax(1)

    # --- time ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _work_per_step(self) -> list[float]:
        """Multiply-adds an image of a step of each phase, about: what is left to do is measured in these."""
        teacher = macs(self.space.blocks(self.space.largest()))
        work = []
        for phase, space in zip(self.recipe.phases, self._spaces, strict=True):
            random = float(np.mean([macs(space.blocks(a)) for a in space.decode(space.sample_population(16, np.random.default_rng(0)))]))
            of = {"random": random, "largest": macs(space.blocks(space.largest())), "smallest": macs(space.blocks(space.smallest()))}
            of.update(dict.fromkeys(KINDS, random))  # of the plain network: of what is left to do only the proportion matters
            work.append(3 * sum(of[kind] for kind in phase.children) + (teacher if phase.teacher != "none" else 0))
        return work

    @cached_property
    def work(self) -> float:
        """Multiply-adds an image of all steps, about."""
        return float(np.dot(self._lengths, self._work_per_step))

    def work_done(self) -> float:
        """The part of `work` already done."""
        starts = [end - length for end, length in zip(self._ends, self._lengths, strict=True)]
        done = [min(max(self.step - start, 0), length) for start, length in zip(starts, self._lengths, strict=True)]
        return float(np.dot(done, self._work_per_step))
