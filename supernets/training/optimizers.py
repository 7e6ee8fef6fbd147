"""Optimizers of a recipe, made anew for each phase: SGD with Nesterov momentum, or RMSProp as the papers of MnasNet and BigNAS have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from supernets.training.phases import Recipe

RMSPROP_DECAY = 0.9  # MnasNet, and its released trainer
RMSPROP_EPSILON = 1e-3


class Rmsprop(torch.optim.RMSprop):
    """RMSProp as TensorFlow computes it, which the papers' learning rates are for; torch's own divides by sqrt(mean) + epsilon.

    A step is momentum times the last one plus lr * gradient / sqrt(mean of squared gradients + epsilon); the mean begins at 1.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make a step on the gradients there are."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight].update(square_avg=torch.full_like(weight, group["first_mean"]), momentum_buffer=torch.zeros_like(weight))
            squares, steps = ([self.state[weight][name] for weight in weights] for name in ("square_avg", "momentum_buffer"))
            gradients = torch._foreach_add([weight.grad for weight in weights], weights, alpha=group["weight_decay"])
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["alpha"])
            roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
            torch._foreach_mul_(steps, group["momentum"])
            torch._foreach_addcdiv_(steps, gradients, roots, group["lr"])
            torch._foreach_sub_(weights, steps)


def new_optimizer(recipe: Recipe, tensors: Mapping[str, Tensor], weight_scale: float = 1.0) -> torch.optim.Optimizer:
    """Return the optimizer of a phase: no decay of norms and biases; a group's `rate` is its learning rate in proportion to the phase's.

    Weights that were multiplied by a scale before their norm step as they would without: their gradients are as much smaller.
    """
    square = weight_scale**2
    scaled = {name for name in tensors if square != 1.0 and f"{name.removesuffix('.weight')}.bn.weight" in tensors}
    of: dict[str, list[Tensor]] = {"decayed": [], "plain": [], "scaled": []}
    for name, tensor in tensors.items():
        of["plain" if tensor.ndim <= 1 else "scaled" if name in scaled else "decayed"].append(tensor)
    decay, sgd = recipe.weight_decay, recipe.optimizer == "sgd"
    own: dict[str, Any] = {"rate": square} if sgd else {"rate": abs(weight_scale), "eps": RMSPROP_EPSILON / square, "first_mean": 1 / square}
    groups = [
        {"params": of["decayed"], "weight_decay": decay, "rate": 1.0}, {"params": of["plain"], "weight_decay": 0.0, "rate": 1.0},
        *([{"params": of["scaled"], "weight_decay": decay / square, **own}] if of["scaled"] else []),
    ]  # fmt: skip
    if sgd:
        return torch.optim.SGD(groups, lr=0.1, momentum=recipe.momentum, nesterov=True, foreach=True)
    groups = [{"eps": RMSPROP_EPSILON, "first_mean": 1.0, **group} for group in groups]
    return Rmsprop(groups, lr=0.1, alpha=RMSPROP_DECAY, momentum=recipe.momentum)
