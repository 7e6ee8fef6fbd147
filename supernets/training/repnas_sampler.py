"""Which branches each training step has: drawn under a budget, by gates whose parameters a second optimizer learns.

Three kinds of children (RepNAS, Zhang et al., 2021): `budgeted` are random sets of branches, `gated` are drawn by the
gates, which learn from the same loss as the weights, `chosen` is the one set that the gates are highest for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernets.networks.branches import branched_convolution
from supernets.networks.gates import BranchBudget, BranchGates
from supernets.space import Architecture, SearchSpace
from supernets.spaces.repnas import BRANCHES

BUDGETED, GATED, CHOSEN = KINDS = ("budgeted", "gated", "chosen")
STARTS = ("equal", "random")


@dataclass(frozen=True)
class BranchSettings:
    """What a recipe says of branches: the budget, whether each has a kernel of its own, and how the gates learn (by Adam).

    The decay of the gates' parameters falls to zero over the steps they learn in, as half a cosine. They `start` equal, or at
    random numbers: where no phase then learns them, the set chosen is a random one, which is what a search must beat.

    Raises:
        ValueError: a field out of range.
    """

    budget: BranchBudget
    own_weights: bool = False
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 5e-4
    start: str = "equal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if not self.learning_rate > 0 or self.weight_decay < 0 or not all(0 <= beta < 1 for beta in self.betas) or len(self.betas) != 2:
            raise ValueError(
                f"gates have learning_rate {self.learning_rate}, betas {self.betas}, weight_decay {self.weight_decay}; "
                "expected more than 0, two from 0 to under 1, at least 0"
            )
        if self.start not in STARTS:
            raise ValueError(f"start of gates is {self.start!r}; expected one of {', '.join(STARTS)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "budget": self.budget.to_dict(), "betas": list(self.betas)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BranchSettings:
        """Return the settings that `to_dict` described.

        Raises:
            ValueError: an unknown or missing field, or a value that is refused.
        """
        for data_class, given, what in ((cls, values, "branches"), (BranchBudget, values.get("budget", {}), "a branch budget")):
            known = [f.name for f in fields(data_class)]
            strange = [name for name in given if name not in known]
            if strange:
                raise ValueError(f"{what} of a recipe have no field {strange[0]!r}; known fields: {', '.join(known)}")
        return cls(**{**values, "budget": BranchBudget(**values.get("budget", {}))})


@dataclass
class Drawn:
    """One child of a step: its architecture, and the gates of its branches by the prefix of the branch's tensors, if they learn."""

    architecture: Architecture
    gates: dict[str, Tensor] = field(default_factory=dict)


class BranchSampler:
    """Draws the children of a space with branches; owns the gates' parameters and their optimizer."""

    def __init__(self, space: SearchSpace, settings: BranchSettings, seed: int = 0) -> None:
        self._space, self._settings = space, settings
        self.gates = BranchGates((choice.name for choice in space.choices if choice.kind in BRANCHES), settings.budget)
        if settings.start == "random":
            noise = np.random.default_rng([seed, len(self.gates.candidates)]).logistic(size=len(self.gates.candidates))
            with torch.no_grad():
                self.gates.alpha.copy_(torch.from_numpy(noise))
        self._convolutions = {b.name: branched_convolution(b).name for b in space.blocks(space.largest()) if self._is_branched(b.name)}
        self._optimizer = torch.optim.Adam([self.gates.alpha], settings.learning_rate, settings.betas)

    def _is_branched(self, place: str) -> bool:
        return any(name.rpartition(".")[0] == place for name in (*self.gates.candidates, *self.gates.forced))

    def draw(self, kind: str, rng: np.random.Generator) -> Drawn:
        """Return a child of this kind; all other choices are drawn at random."""
        noise = None if kind == CHOSEN else rng
        gates = self.gates.gates(self.gates.scores(noise, learned=kind != BUDGETED))
        values = {**self._space.sample(rng).values, **self.gates.kept(gates)}
        return Drawn(self._space.architecture(values), {self._tensors_of(name): gate for name, gate in gates.items()} if kind == GATED else {})

    def _tensors_of(self, name: str) -> str:
        place, _, branch = name.rpartition(".")
        return f"{self._convolutions[place]}.{branch}"

    def chosen(self) -> Architecture:
        """Return the largest architecture with the branches that the gates are highest for."""
        kept = self.gates.kept(self.gates.gates(self.gates.scores()))
        return self._space.architecture({**self._space.largest().values, **kept})

    def learn(self, progress: float, scale: float = 1.0) -> bool:
        """Make a step on the gradients that backward passes of `scale` times the loss left in the gates' parameters, if there are any.

        Progress runs from 0 to 1. Returns whether the gradients were finite: where they are not, no step is made.
        """
        if self.gates.alpha.grad is None:
            return True
        self.gates.alpha.grad.div_(scale)
        finite = bool(self.gates.alpha.grad.isfinite().all())
        if finite:
            self._optimizer.param_groups[0]["weight_decay"] = self._settings.weight_decay * 0.5 * (1 + math.cos(math.pi * progress))
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return finite

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs, as tensors."""
        moments = self._optimizer.state.get(self.gates.alpha, {})
        return {"alpha": self.gates.alpha.detach(), **{f"adam_{name}": torch.as_tensor(value).float() for name, value in moments.items()}}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Go to a kept state.

        Raises:
            ValueError: it is of other candidates, or damaged.
        """
        if "alpha" not in saved or saved["alpha"].shape != self.gates.alpha.shape:
            raise ValueError(f"kept gates are of shape {tuple(saved['alpha'].shape) if 'alpha' in saved else None}; "
                             f"expected {tuple(self.gates.alpha.shape)}")  # fmt: skip
        moments = {name.removeprefix("adam_"): tensor for name, tensor in saved.items() if name != "alpha"}
        known = {"step": (), "exp_avg": self.gates.alpha.shape, "exp_avg_sq": self.gates.alpha.shape}  # of Adam
        if {name: tuple(tensor.shape) for name, tensor in moments.items()} not in ({}, {name: tuple(shape) for name, shape in known.items()}):
            raise ValueError(f"kept gates have the tensors {', '.join(sorted(saved))} of other shapes than Adam's")
        if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in saved.values()):
            raise ValueError("kept gates hold what is no finite number")
        with torch.no_grad():
            self.gates.alpha.copy_(saved["alpha"])
        if moments:
            self._optimizer.state[self.gates.alpha] = moments


def kinds_of(children: Iterable[str]) -> set[str]:
    """Return which of the kinds drawn by gates are among a phase's children."""
    return set(children) & set(KINDS)
