"""A training in progress: its steps, and what must be kept to go on from any of them.

A step: augment a batch; for each of the phase's children forward, loss, backward; then one optimizer step on the summed
gradients, and one of the gates that drew its branches, if they learn. Everything random is derived from (seed, step), so a
run stopped at any moment and started again ends with the same bits as an undisturbed one (same machine, versions and
number of threads).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernets.networks.branched import BranchedSupernet
from supernets.networks.initialising import begin_as_shortcuts
from supernets.networks.slicing import child_tensors
from supernets.networks.sorting import sorted_channels
from supernets.networks.supernet import Supernet
from supernets.space import Architecture, SearchSpace
from supernets.training import shrinking
from supernets.training.averaging import Averages
from supernets.training.children import answers, drawn_children, dropout_of, loss_of, teaching
from supernets.training.crops import cropped, drawn_crops
from supernets.training.data import ImageData, drawn, picked
from supernets.training.images import augmented, network_input
from supernets.training.machine import Machine
from supernets.training.optimizers import new_optimizer
from supernets.training.phases import Phase, Recipe
from supernets.training.repnas_sampler import BranchSampler
from supernets.training.state import TrainingError, TrainState, check_state, damaged
from supernets.training.validation import accuracy
from supernets.training.work import work_per_step

ORDER, AUGMENTATION, RESOLUTION, CHILD, DROPOUT = range(5)  # streams of random numbers
VALIDATION_IMAGES = 2000  # at most, after each phase or epoch
VALIDATION_SEED = 0  # the same images after every phase, of every training
CALIBRATION_IMAGES = 2048
OPTIMIZER_STATE = ("momentum_buffer", "square_avg")  # what optimizers remember of a tensor


class Run:
    """A training in progress: `advance` makes the next step."""

    def __init__(
        self, space: SearchSpace, images: ImageData, recipe: Recipe, seed: int, machine: Machine | None = None,
        start: Mapping[str, Tensor] | None = None, weight_scale: float = 1.0,
    ) -> None:  # fmt: skip
        self.space, self.images, self.recipe, self.seed, self.machine = space, images, recipe, seed, machine or Machine()
        self._sampler = None if recipe.branches is None else BranchSampler(space, recipe.branches, seed)
        if recipe.branches is None:
            self.supernet = Supernet(space, recipe.kernel_transform, seed)
        else:
            self.supernet = BranchedSupernet(space, recipe.branches.own_weights, recipe.kernel_transform, seed)
        self.supernet.to(self.machine.device, self.machine.dtype)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self._tensors = self.supernet.tensors()
        if start is not None:
            self._load(start)
        elif recipe.zero_last_norms:
            begin_as_shortcuts(self._tensors, space)
        self._weight_scale = weight_scale
        self._teacher: dict[str, Tensor] = {}
        self._averages: Averages | None = None
        self._epochs: list[dict[str, Any]] = []
        self._steps_per_epoch = len(images.train_images) // recipe.batch_size
        self._lengths = [phase.steps(self._steps_per_epoch) for phase in recipe.phases]
        self._ends = np.cumsum(self._lengths).tolist()
        self._spaces = [phase.space(space) for phase in recipe.phases]
        self._rows = self.machine.group.part(recipe.batch_size)
        self._scaler = self.machine.loss_scaler()
        self._loss_sum = 0.0
        self._order_of: tuple[int, int] | None = None
        self._kept_order = np.empty(0, dtype=np.intp)
        self._optimizer = new_optimizer(recipe, self._tensors, weight_scale)

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
        scale = {} if self._weight_scale == 1.0 else {"weight_scale": self._weight_scale}
        return {**scale, **({} if self.recipe.branches is None else {"own_branch_weights": self.recipe.branches.own_weights})}

    # --- keeping and restoring ----------------------------------------------------------------------------------------

    def state(self) -> TrainState:
        """Return what `restore` needs; the tensors are the live ones."""
        kept = self._optimizer.state
        momentum, squares = (
            {name: kept[tensor][what] for name, tensor in self._tensors.items() if what in kept.get(tensor, {})} for what in OPTIMIZER_STATE
        )
        gates = {} if self._sampler is None else self._sampler.state()
        averages = {} if self._averages is None else self._averages.tensors
        running = {"loss_sum": self._loss_sum, "epochs": self._epochs, "loss_scale": self._scaler.state_dict()}
        return TrainState(self.step, self._tensors, momentum, squares, self._teacher, gates, averages, [*self.history, running])

    def restore(self, saved: TrainState, path: Path) -> None:
        """Go to a kept state.

        Raises:
            CheckpointError: it is no state that this training was ever in.
        """
        last = self.recipe.phases[self._phase_of(min(max(0, saved.step - 1), self.steps - 1))]
        teacher = self._taught_by() if saved.step and last.teacher in ("phase_start", "full_network") else ()
        check_state(path, saved, self._tensors, self._ends, teacher, self.recipe.averaging is not None)
        self._load(saved.weights)
        for what, of_what in zip(OPTIMIZER_STATE, (saved.momentum, saved.squares), strict=True):
            for name, tensor in of_what.items():
                self._optimizer.state[self._tensors[name]][what] = self.machine.put(tensor)
        if self._sampler is not None:
            try:
                self._sampler.restore(saved.gates)
            except ValueError as error:
                raise damaged(path, str(error)) from None
        self._teacher = {name: self.machine.put(tensor) for name, tensor in saved.teacher.items()}
        if saved.averages:
            self._averages = Averages({name: self.machine.put(tensor) for name, tensor in saved.averages.items()}, self.recipe.averaging or 0.0)
        running = saved.history[-1]
        self.step, self.history = saved.step, saved.history[:-1]
        self._loss_sum, self._epochs = running["loss_sum"], running.get("epochs", [])
        if running.get("loss_scale"):  # there is none of a training in full precision, which may go on in half
            self._scaler.load_state_dict(running["loss_scale"])

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
        for group in self._optimizer.param_groups:
            group["lr"] = phase.learning_rate_at(local, self._steps_per_epoch) * group["rate"]
        loss = self._learn(phase, self._spaces[number], number, local)
        if not np.isfinite(loss):
            where = f"at step {self.step}, in phase {phase.name!r}"
            raise TrainingError(f"the loss became {loss} {where}; expected a number, so lower the phase's learning_rate, {phase.learning_rate}")
        if self._averages is not None:
            self._averages.update(self._tensors, local)
        self._loss_sum += loss
        self.step += 1
        if (local + 1) % self._steps_per_epoch == 0 and self.recipe.validation == "epoch":
            tensors = self._tensors if self._averages is None else self._averages.tensors
            judged = self._judged(shrinking.corners(self._spaces[number]), tensors)
            self._epochs.append({"epoch": (local + 1) // self._steps_per_epoch, "validation_top1": judged})
        if self.step == self._ends[number]:
            self._end(number)
        return loss

    def _begin(self, number: int) -> None:
        phase = self.recipe.phases[number]
        if phase.teacher == "phase_start" or (phase.teacher == "full_network" and not self._teacher):
            self._teacher = {name: tensor.detach().clone() for name, tensor in self._taught_by().items()}
        if "sort_channels" in phase.actions:
            with torch.no_grad():
                self._load(sorted_channels(self._tensors, self.space, self._spaces[max(0, number - 1)]))
        self._optimizer = new_optimizer(self.recipe, self._tensors, self._weight_scale)
        if self.recipe.averaging is not None:
            self._averages = Averages(self._tensors, self.recipe.averaging)
        self._loss_sum, self._epochs = 0.0, []

    def _taught_by(self) -> Mapping[str, Tensor]:
        """Return the tensors that a teacher is made of: those of the largest network."""
        return child_tensors(self.space.blocks(self.space.largest()), self._tensors)

    def _end(self, number: int) -> None:
        if self._averages is not None:
            self._load(self._averages.tensors)
        space = self._spaces[number]
        ends = {"largest": space.largest(), "smallest": space.smallest()}
        entry: dict[str, Any] = {"epochs": self._epochs} if self._epochs else {}
        if self._sampler is not None and {"gated", "chosen"} & set(self.recipe.phases[number].children):
            ends = {"chosen": self._sampler.chosen()}
            entry["architecture"] = dict(ends["chosen"].values)
        loss, name = self._loss_sum / self._lengths[number], self.recipe.phases[number].name
        top1 = self._judged(ends, self._tensors)
        self.history.append({"phase": name, "steps": self._lengths[number], "mean_loss": loss, "validation_top1": top1, **entry})

    def _judged(self, networks: Mapping[str, Architecture], tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the validation accuracy of each network; the first process judges for all."""
        data, top1 = self.images, {}
        if self.machine.group.first:
            rows = drawn(len(data.validation_labels), VALIDATION_IMAGES, VALIDATION_SEED)  # a folder's images are in order of their classes
            shown = (picked(data.validation_images, rows), data.validation_labels[rows])
            calibration = data.calibration_images(CALIBRATION_IMAGES)
            different = dict.fromkeys(networks.values())  # of a space of one network both ends are that
            judged = {network: accuracy(self.space, tensors, network, *shown, calibration) for network in different}
            top1 = {name: judged[network] for name, network in networks.items()}
        self.machine.group.wait()
        return top1

    def _rng(self, stream: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, *numbers])

    def _batch(self, number: int, local: int) -> tuple[Tensor, Tensor]:
        """Return the pixels (N, H, W, C) and labels (N,) of this process's part of a step's batch, augmented, on the device."""
        epoch, place = divmod(local, self._steps_per_epoch)
        order = self._order(number, epoch)
        rows = order[place * self.recipe.batch_size : (place + 1) * self.recipe.batch_size][self._rows]
        recipe, images, rng, device = self.recipe, self.images.train_images[rows], self._rng(AUGMENTATION, self.step), self.machine.device
        labels = torch.from_numpy(self.images.train_labels[rows]).to(device)
        if recipe.crop_scale is None:
            moved = augmented(images, rng, recipe.crop_padding, recipe.flip, recipe.batch_size, self._rows)
            return torch.from_numpy(np.ascontiguousarray(moved)).to(device), labels
        crops = drawn_crops(recipe.batch_size, self.images.side, rng, recipe.crop_scale, recipe.flip, recipe.brightness, recipe.saturation)
        return cropped(torch.from_numpy(images).to(device), crops, self._rows), labels

    def _order(self, number: int, epoch: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Return the epoch's order of the training images; kept until another one is asked for."""
        if self._order_of != (number, epoch):
            self._order_of, self._kept_order = (number, epoch), self._rng(ORDER, number, epoch).permutation(len(self.images.train_images))
        return self._kept_order

    def _learn(self, phase: Phase, space: SearchSpace, number: int, local: int) -> float:
        pixels, labels = self._batch(number, local)
        self._optimizer.zero_grad(set_to_none=True)
        inputs: dict[int, Tensor] = {}
        targets: dict[int, Tensor] = {}
        taught: Tensor | None = None
        total, group = 0.0, self.machine.group
        for child in drawn_children(phase, space, self._rng(RESOLUTION, self.step), lambda i: self._rng(CHILD, self.step, i), self._sampler):
            side = self.space.blocks(child.architecture)[0].input_side
            if side not in inputs:
                inputs[side] = self.machine.put(network_input(pixels, side))
            with self.machine.half_where_safe():
                if phase.teacher in ("full_network", "phase_start"):
                    if side not in targets:
                        targets[side] = teaching(self.space, child.architecture, inputs[side], self._teacher, group.norm)
                    taught = targets[side]
                with self._seeded(child.number, dropout_of(phase, child)) as dropout:
                    logits = answers(self.space, child, inputs[side], self._tensors, group.norm, dropout, self.recipe.branches is not None)
                loss = loss_of(phase, child, logits, labels, taught, self.recipe.label_smoothing)
                if phase.teacher == "in_place" and child.number == 0:
                    taught = logits.detach().softmax(1)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        learned = self._sampler is None or self._gates_learn(self._sampler, local / self._lengths[number])
        group.average_gradients(self._tensors.values(), self.machine.device)
        if self.recipe.gradient_norm is not None:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._tensors.values(), self.recipe.gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update(None if learned else self._scaler.get_scale() * self._scaler.get_backoff_factor())
        return group.mean(total / len(phase.children), self.machine.device)

    def _gates_learn(self, sampler: BranchSampler, progress: float) -> bool:
        """Let gates make their step, the same in all processes; returns whether their gradients were finite, as a smaller scale makes them."""
        self.machine.group.average_gradients([sampler.gates.alpha], self.machine.device)
        return sampler.learn(progress, self._scaler.get_scale())

    @contextmanager
    def _seeded(self, child: int, dropout: float) -> Iterator[float]:
        """Yield the dropout; where there is some, torch's generators are seeded for this child of this step, and put back."""
        if not dropout:
            yield dropout
            return
        rank = self.machine.group.rank
        with torch.random.fork_rng(devices=[self.machine.device] if self.machine.on_gpu else []):
            torch.manual_seed(int(self._rng(DROPOUT, self.step, child, *([rank] if rank else [])).integers(2**63)))
            yield dropout

    # --- time ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _work_per_step(self) -> list[float]:
        return [work_per_step(self.space, phase, space) for phase, space in zip(self.recipe.phases, self._spaces, strict=True)]

    @property
    def work(self) -> float:
        """Multiply-adds an image of all steps, about."""
        return float(np.dot(self._lengths, self._work_per_step))

    def work_done(self) -> float:
        """The part of `work` already done."""
        starts = [end - length for end, length in zip(self._ends, self._lengths, strict=True)]
        done = [min(max(self.step - start, 0), length) for start, length in zip(starts, self._lengths, strict=True)]
        return float(np.dot(done, self._work_per_step))
