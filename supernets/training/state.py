"""What a training must remember between two steps, and the file it is kept in: written whole, refused if it is of another run.

Everything else (which images, which children, how they are moved, the learning rate) follows from the step's number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from supernets.networks.checkpoint import read_tensors, write_tensors

KIND = "elastic-latency training"
CHECKPOINT_FILE = "checkpoint.safetensors"
LOCK_FILE = ".lock"


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
        CheckpointError: the file is of another kind.
        TrainingError: it is of a training with other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path, KIND)
    refuse_others(path, metadata["settings"], settings)
    state = TrainState(metadata["step"], history=metadata["history"])
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        getattr(state, part)[name] = tensor.clone()
    return state


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
    import fcntl

    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(f"folder {str(folder)!r} is in use by another training; wait for it, or use another folder") from error
        yield
