"""What a training must remember between two steps, and the file it is kept in: written whole, refused if it is of another run.

Everything else (which images, which children, how they are moved, the learning rate) follows from the step's number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from supernets.folder_lock import FolderInUseError, hold
from supernets.networks.checkpoint import CheckpointError, check_tensors, read_tensors, write_tensors

KIND = "elastic-latency training"
CHECKPOINT_FILE = "checkpoint.safetensors"
FINISHED_PHASE = {"phase": str, "steps": int, "mean_loss": float, "validation_top1": dict}  # what the history says at least of one
LOSS_SCALE = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}  # of torch's GradScaler; none in full precision


class TrainingError(ValueError):
    """A training that cannot begin, go on, or be continued; the text says why."""


@dataclass
class TrainState:
    """The state after `step` steps: weights, momentum of the running phase, mean squared gradients (RMSProp), teacher, gates, averages, history."""

    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)
    averages: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def write_state(folder: Path, state: TrainState, settings: Mapping[str, Any]) -> None:
    """Write the folder's checkpoint; the one before is there until the new one is whole and on disk."""
    parts = {
        "weights": state.weights, "momentum": state.momentum, "squares": state.squares, "teacher": state.teacher, "gates": state.gates,
        "averages": state.averages,
    }  # fmt: skip
    tensors = {f"{part}/{name}": tensor.detach() for part, of_part in parts.items() for name, tensor in of_part.items()}
    write_tensors(folder / CHECKPOINT_FILE, tensors, {"kind": KIND, "step": state.step, "history": state.history, "settings": settings})


def read_state(folder: Path, settings: Mapping[str, Any]) -> TrainState | None:
    """Return the folder's checkpoint, or None if it has none.

    Raises:
        CheckpointError: the file is of another kind, or damaged.
        TrainingError: it is of a training with other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path, KIND)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; remove it to begin anew") from error
    for what, usable in (("settings", _is_mapping), ("step", is_count), ("history", _is_history)):
        if not usable(metadata.get(what)):
            raise damaged(path, f"{what} is {_short(metadata.get(what))}")
    refuse_others(path, metadata["settings"], settings)
    parts = {part.name for part in fields(TrainState)} - {"step", "history"}
    state = TrainState(metadata["step"], history=metadata["history"])
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts:
            raise damaged(path, f"it holds the tensor {key!r}, which is no part of a training")
        getattr(state, part)[name] = tensor.clone()
    return state


def damaged(path: Path, what: str) -> CheckpointError:
    """Return the error of a checkpoint that this program did not write so."""
    return CheckpointError(f"file {str(path)!r} is no checkpoint that a training can go on from: {what}; remove it to begin anew")


def check_state(path: Path, state: TrainState, tensors: Mapping[str, Tensor], ends: Sequence[int], teacher: Iterable[str], averaged: bool) -> None:
    """Check what a file kept against the training that is to go on: its tensors, and the steps at which its phases end.

    `teacher` names the tensors of a teacher, if the phase of the state's last step has one; `averaged` says whether averages are kept.

    Raises:
        CheckpointError: the training was never in this state; the text names the first thing that differs.
    """
    try:
        check_tensors(path, state.weights, tensors)
    except CheckpointError as error:
        raise damaged(path, str(error)) from None
    for part in (state.momentum, state.squares, state.teacher, state.averages):
        for name, tensor in part.items():
            if name not in tensors or tensor.shape != tensors[name].shape or not tensor.is_floating_point():
                raise damaged(path, f"it holds tensor {name!r} of another supernet")
            if not tensor.isfinite().all():
                raise damaged(path, f"what it keeps beside tensor {name!r} holds infinity or NaN")
    finished = len(state.history) - 1
    if state.step > ends[-1] or finished != sum(state.step >= end for end in ends):
        raise damaged(path, f"it is of step {state.step} of {ends[-1]}, with {finished} phases finished")
    if not set(teacher) <= set(state.teacher):
        raise damaged(path, "it lacks tensors of its teacher")
    if set(state.averages) != (set(tensors) if averaged and state.step else set()):
        raise damaged(path, "its averages are not those of its tensors")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether it is a number of steps."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_figure(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_finished(history: Iterable[Any]) -> bool:
    """Return whether each entry tells of a finished phase."""
    return all(isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in FINISHED_PHASE.items()) for entry in history)


def _is_history(value: Any) -> bool:
    """Return whether it is a list of finished phases, and at its end what is summed up of the running one."""
    if not (isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)):
        return False
    *finished, running = value
    scale, epochs = running.get("loss_scale", {}), running.get("epochs", [])
    return (
        is_finished(finished)
        and _is_figure(running.get("loss_sum"))
        and isinstance(epochs, list) and all(isinstance(epoch, dict) for epoch in epochs)
        and isinstance(scale, dict) and (not scale or (set(scale) == LOSS_SCALE and all(map(_is_figure, scale.values()))))
    )  # fmt: skip


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def refuse_others(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Check that a file in the folder is of the training asked for.

    Raises:
        TrainingError: a setting differs; the text names it with both values.
    """
    for name, have, asked in _differences(found, settings, ""):
        raise TrainingError(f"{str(path)!r} is of a training with {name} {have!r}, not {asked!r}; give its own settings, or use another folder")


def _differences(found: Any, asked: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in dict.fromkeys([*asked, *found]):
            yield from _differences(found.get(key), asked.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(found, list) and isinstance(asked, list) and len(found) == len(asked):
        for i, (one, other) in enumerate(zip(found, asked, strict=True)):
            yield from _differences(one, other, f"{name}[{i}]")
    elif found != asked:
        yield name, found, asked


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one training at a time.

    Raises:
        TrainingError: another process holds it.
    """
    try:
        held = hold(folder, "training")
    except FolderInUseError as error:
        raise TrainingError(str(error)) from None
    with held:
        yield
