"""A step's children: which they are, what each answers to a batch, and what each learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.networks.branched import branched_forward
from supernets.networks.branches import branched_slices, kept_branches
from supernets.networks.functional import Norm, Tensors, forward
from supernets.networks.slicing import child_tensors
from supernets.space import Architecture, SearchSpace
from supernets.training.phases import Phase
from supernets.training.repnas_sampler import BranchSampler, Drawn, kinds_of


@dataclass(frozen=True)
class Child:
    """One child of a step: its place among them, of which kind it is, its architecture and gates."""

    number: int
    kind: str
    drawn: Drawn

    @property
    def architecture(self) -> Architecture:
        """The child's architecture."""
        return self.drawn.architecture


def drawn_children(
    phase: Phase, space: SearchSpace, shared_rng: np.random.Generator, rng_of: Callable[[int], np.random.Generator], sampler: BranchSampler | None
) -> Iterator[Child]:
    """Yield the step's children of a phase's space; `rng_of` gives each child's generator, `shared_rng` draws what they share."""
    sides = next((choice.allowed for choice in space.choices if choice.name == "resolution"), ())
    shared = shared_rng.choice(sides) if len(sides) and phase.resolution == "shared" else None
    for number, kind in enumerate(phase.children):
        rng = rng_of(number)
        if sampler is not None and kinds_of([kind]):
            drawn = sampler.draw(kind, rng)
        else:
            drawn = Drawn(space.sample(rng) if kind == "random" else space.largest() if kind == "largest" else space.smallest())
        if shared is not None:
            drawn.architecture = space.architecture({**drawn.architecture.values, "resolution": int(shared)})
        yield Child(number, kind, drawn)


def dropout_of(phase: Phase, child: Child) -> float:
    """Return the child's dropout."""
    return phase.dropout if phase.dropout_on == "all" or child.kind == "largest" else 0.0


def answers(space: SearchSpace, child: Child, x_NCHW: Tensor, tensors: Tensors, norm: Norm, dropout: float, branched: bool) -> Tensor:
    """Return the logits (N, classes) of a child of these supernet tensors on a batch."""
    blocks = space.blocks(child.architecture)
    if not branched:
        return forward(blocks, x_NCHW, child_tensors(blocks, tensors), norm, dropout)
    kept = kept_branches(blocks, child.architecture)
    return branched_forward(blocks, x_NCHW, branched_slices(blocks, tensors, kept), kept, norm, child.drawn.gates, dropout)


def loss_of(phase: Phase, child: Child, logits: Tensor, labels: Tensor, taught: Tensor | None, label_smoothing: float) -> Tensor:
    """Return what a child learns from: labels and teacher, or under an in-place teacher one of them."""
    if phase.teacher == "in_place" and child.number > 0 and taught is not None:
        return phase.distillation_ratio * F.cross_entropy(logits, taught)
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if taught is None:
        return loss
    return loss + phase.distillation_ratio * F.cross_entropy(logits, taught)


@torch.no_grad()
def teaching(space: SearchSpace, child: Architecture, x_NCHW: Tensor, teacher: Tensors, norm: Norm) -> Tensor:
    """Return the class probabilities that the largest network, of the teacher's own tensors, gives at the child's resolution."""
    values = dict(space.largest().values)
    if "resolution" in values:
        values["resolution"] = child["resolution"]
    return forward(space.blocks(space.architecture(values)), x_NCHW, teacher, norm).softmax(1)
