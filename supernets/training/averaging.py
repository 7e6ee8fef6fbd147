"""Averages of weights over the steps of a phase, the last ones counting most: steadier than the last step's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Exponential moving averages of tensors, by name; `decay` is the share of the average that a step keeps."""

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after a step, counted from 0; the first ones are forgotten faster, so the start is not kept for long."""
        torch._foreach_lerp_(list(self.tensors.values()), [tensors[name].detach() for name in self.tensors], 1 - self.kept(step))

    def kept(self, step: int) -> float:
        """Return the share of the average that a step keeps."""
        return min(self.decay, (1 + step) / (10 + step))
