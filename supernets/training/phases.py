"""Phases of training: which sub-space, which children each step, who teaches, the schedule, and what is done first.

Epochs count passes over the training images, and may be fractions; learning rates are for the recipe's batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from supernets.space import SearchSpace, Value
from supernets.training import schedules
from supernets.training.repnas_sampler import KINDS, BranchSettings

CHILDREN = ("largest", "smallest", "random", *KINDS)
TEACHERS = ("none", "full_network", "phase_start", "in_place")
ACTIONS = ("sort_channels",)
RESOLUTIONS = ("shared", "own")
LARGEST_VALUE = "largest"  # in a restriction: the last value of each choice, whatever it is
DROPOUT_ON = ("all", "largest")
VALIDATIONS = ("phase", "epoch")
OPTIMIZERS = ("sgd", "rmsprop")
LATER = {"may_be_missing": True}  # of fields that files of older versions do not have; written only where not at their default


@dataclass(frozen=True)
class Phase:
    """One phase.

    `restriction` names choices, or kinds of choices, with the values the phase allows (`largest`: of each its own); `children` says how each step's
    networks are drawn from that sub-space. Each child learns from the labels and, times `distillation_ratio`, from the
    teacher: the largest network as it was when the first phase with a teacher began (`full_network`) or when this one
    did (`phase_start`). Or, `in_place`, the first child, which is the largest, teaches the others as it learns, and those see no
    labels. All children of a step see one resolution (`shared`) or each its own. With `part_of`, (epochs before,
    epochs in all), the phase's learning rate is its part of one longer schedule. Dropout is for `all` children or the `largest`.

    Raises:
        ValueError: a field out of range.
    """

    name: str
    epochs: float
    learning_rate: float
    restriction: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    children: tuple[str, ...] = ("random",)
    warmup_epochs: float = 0.0
    teacher: str = "none"
    distillation_ratio: float = 0.0
    dropout: float = 0.0
    actions: tuple[str, ...] = ()
    resolution: str = "shared"
    part_of: tuple[float, float] | None = None
    schedule: str = field(default="cosine", metadata=LATER)
    dropout_on: str = field(default="all", metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "restriction", MappingProxyType({name: tuple(values) for name, values in self.restriction.items()}))
        object.__setattr__(self, "children", tuple(self.children))
        object.__setattr__(self, "actions", tuple(self.actions))
        for name, several in (("children", CHILDREN), ("actions", ACTIONS)):
            strange = [value for value in getattr(self, name) if value not in several]
            if strange:
                raise ValueError(f"{name} of phase {self.name!r} has {strange[0]!r}; expected some of {', '.join(several)}")
        if not self.children:
            raise ValueError(f"children of phase {self.name!r} is empty; expected some of {', '.join(CHILDREN)}")
        choices = {"teacher": TEACHERS, "resolution": RESOLUTIONS, "schedule": schedules.SCHEDULES, "dropout_on": DROPOUT_ON}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} of phase {self.name!r} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if not self.epochs > 0 or not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"phase {self.name!r} has {self.epochs} epochs, {self.warmup_epochs} of warm-up; expected more than 0, and less warm-up")
        if not self.learning_rate > 0 or self.distillation_ratio < 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"phase {self.name!r} has learning_rate {self.learning_rate}, distillation_ratio {self.distillation_ratio}, dropout {self.dropout}; "
                "expected more than 0, at least 0, and 0 to 1"
            )
        if self.part_of is not None:
            object.__setattr__(self, "part_of", tuple(self.part_of))
            if len(self.part_of) != 2 or self.part_of[0] < 0 or not sum((self.part_of[0], self.epochs)) <= self.part_of[1] * (1 + 1e-9):
                raise ValueError(f"phase {self.name!r} of {self.epochs} epochs is part_of {self.part_of}; expected epochs before, and in all")
        if (self.teacher == "none") != (self.distillation_ratio == 0):
            raise ValueError(f"phase {self.name!r} has teacher {self.teacher!r}, distillation_ratio {self.distillation_ratio}; one needs the other")
        if self.teacher == "in_place" and (self.children[0] != "largest" or "largest" in self.children[1:]):
            raise ValueError(f"children of phase {self.name!r} are {', '.join(self.children)}; where the step's own largest network "
                             "teaches, it comes first and once")  # fmt: skip

    def space(self, whole: SearchSpace) -> SearchSpace:
        """Return the part of the space this phase trains.

        Raises:
            ValueError: a restriction names a choice, or a kind of choice, or a value, that the space does not have.
        """
        plain = {name: values for name, values in self.restriction.items() if values != (LARGEST_VALUE,)}
        named = [name for name in self.restriction if name not in plain]
        largest = {choice.name: choice.allowed[-1:] for choice in whole.choices if {choice.name, choice.kind} & set(named)}
        absent = [name for name in named if not any(name in (choice.name, choice.kind) for choice in whole.choices)]
        return whole.restrict({**plain, **largest, **dict.fromkeys(absent, ())})

    def steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimizer steps, at least one."""
        return max(1, round(self.epochs * steps_per_epoch))

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step of the phase: a linear warm-up, then what the schedule says."""
        warmup, total = round(self.warmup_epochs * steps_per_epoch), self.steps(steps_per_epoch)
        if self.part_of is not None:
            step, total = step + round(self.part_of[0] * steps_per_epoch), max(1, round(self.part_of[1] * steps_per_epoch))
        return self.learning_rate * schedules.factor(self.schedule, step, warmup, total, steps_per_epoch)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {
            **written_fields(self),
            "restriction": {name: list(allowed) for name, allowed in self.restriction.items()},
            "children": list(self.children),
            "actions": list(self.actions),
            "part_of": None if self.part_of is None else list(self.part_of),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Phase:
        """Return the phase that `to_dict` described.

        Raises:
            ValueError: an unknown or missing field, or a value `Phase` refuses.
        """
        return cls(**checked_fields(cls, values, "a phase"))


@dataclass(frozen=True)
class Recipe:
    """A whole training: phases one after another, and what they share.

    The optimizer is SGD with Nesterov momentum, or `rmsprop` (`optimizers`). With `crop_scale`, random resized crops take the place
    of moves by `crop_padding`; `brightness` and `saturation` are by how much colours are multiplied, up or down, at most.

    Raises:
        ValueError: a field out of range.
    """

    name: str
    phases: tuple[Phase, ...]
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 3e-5  # of weights only, not of norms and biases
    label_smoothing: float = 0.1
    crop_padding: int = 4  # pixels an image is moved by at most
    flip: bool = True
    kernel_transform: bool = True
    gradient_norm: float | None = None  # longer gradients are scaled down to it
    branches: BranchSettings | None = None  # of spaces whose blocks have branches
    zero_last_norms: bool = field(default=False, metadata=LATER)  # every residual block begins as its shortcut
    averaging: float | None = field(default=None, metadata=LATER)  # share of their average that weights keep in a step; the average ends each phase
    validation: str = field(default="phase", metadata=LATER)  # corners are judged after each `epoch`, or both ends after each `phase`
    optimizer: str = field(default="sgd", metadata=LATER)
    crop_scale: float | None = field(default=None, metadata=LATER)  # smallest share of an image's area that a crop has
    brightness: float = field(default=0.0, metadata=LATER)
    saturation: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self.phases))
        drawn = [phase.name for phase in self.phases if set(phase.children) & set(KINDS)]
        if drawn and self.branches is None:
            raise ValueError(f"phase {drawn[0]!r} of recipe {self.name!r} draws branches, but the recipe has no `branches`; give their budget")
        beyond = [phase.name for phase in self.phases if phase.teacher != "none" or phase.actions]
        if beyond and self.branches is not None:
            raise ValueError(f"phase {beyond[0]!r} of recipe {self.name!r} has a teacher or actions; a recipe with `branches` can have neither")
        if self.gradient_norm is not None and not self.gradient_norm > 0:
            raise ValueError(f"gradient_norm of recipe {self.name!r} is {self.gradient_norm}; expected more than 0, or none")
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise ValueError(f"averaging of recipe {self.name!r} is {self.averaging}; expected more than 0 and less than 1, or none")
        if self.validation not in VALIDATIONS:
            raise ValueError(f"validation of recipe {self.name!r} is {self.validation!r}; expected one of {', '.join(VALIDATIONS)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer of recipe {self.name!r} is {self.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
        self._check_augmentation()
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"phases of recipe {self.name!r} are named {names}; expected one or more different names")
        if self.batch_size < 2 or self.crop_padding < 0:
            raise ValueError(f"recipe {self.name!r} has batch_size {self.batch_size}, crop_padding {self.crop_padding}; expected at least 2, and 0")
        if not 0 < self.momentum < 1 or self.weight_decay < 0 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"recipe {self.name!r} has momentum {self.momentum}, weight_decay {self.weight_decay}, label_smoothing {self.label_smoothing}; "
                "expected 0 to 1, at least 0, 0 to 1"
            )

    def _check_augmentation(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale of recipe {self.name!r} is {self.crop_scale}; expected more than 0 and at most 1, or none")
        if not 0 <= self.brightness <= 1 or not 0 <= self.saturation <= 1:
            raise ValueError(f"recipe {self.name!r} has brightness {self.brightness}, saturation {self.saturation}; expected 0 to 1")
        if self.crop_scale is None and (self.brightness or self.saturation):
            raise ValueError(f"recipe {self.name!r} changes colours, but has no crop_scale, with which that is done; give one, such as 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        branches = None if self.branches is None else self.branches.to_dict()
        return {**written_fields(self), "phases": [phase.to_dict() for phase in self.phases], "branches": branches}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` described.

        Raises:
            ValueError: an unknown or missing field, or a value a phase or `Recipe` refuses.
        """
        known = checked_fields(cls, values, "a recipe")
        branches = None if known.get("branches") is None else BranchSettings.from_dict(known["branches"])
        return cls(**{**known, "phases": tuple(Phase.from_dict(phase) for phase in known["phases"]), "branches": branches})


def written_fields(data: Phase | Recipe) -> dict[str, Any]:
    """Return the fields of a phase or recipe, without those of later versions that are at their defaults."""
    return {f.name: getattr(data, f.name) for f in fields(data) if "may_be_missing" not in f.metadata or getattr(data, f.name) != f.default}


def checked_fields(cls: Any, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the mapping if all its keys are fields of the data class and none it needs is missing.

    Raises:
        ValueError: otherwise.
    """
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)}
    strange, missing = [name for name in values if name not in known], [name for name, needed in known.items() if needed and name not in values]
    if strange or missing:
        raise ValueError(f"{what} {'has no field' if strange else 'needs the field'} {(strange or missing)[0]!r}; its fields are {', '.join(known)}")
    return dict(values)
