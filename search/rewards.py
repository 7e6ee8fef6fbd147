"""Rewards: one figure of accuracy and latency, in which a network that is too slow may make up for it by accuracy.

The weighted products are those of MnasNet (Tan et al., CVPR 2019, section 3), the deviation that of TuNAS (Bender et al.,
CVPR 2020). All take every network; how far from the target one is, is in its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.objectives import ConstrainedMaximum, Figures, Mask, Objective, positive_ms

RELATIVE_GAIN = 0.05  # of accuracy for twice the latency, among MnasNet's networks
SHORTEST_MS = 1e-6  # a nanosecond: no latency is told finer, and a ratio to less of it would overflow
SOFT, HARD = -0.07, (0.0, -1.0)  # MnasNet's exponents: one for both sides of the target, or (below, above) it


def exponent_of_gain(relative_gain: float) -> float:
    """Return the exponent with which a network of twice the latency and this much more accuracy (0.05: 5 %) is worth the same.

    Raises:
        ValueError: a gain that is not above zero.
    """
    if not (math.isfinite(relative_gain) and relative_gain > 0):
        raise ValueError(f"relative_gain is {relative_gain}; expected a share above 0, such as 0.05")
    return -math.log1p(relative_gain) / math.log(2)


class _Reward(Objective):
    """An objective that takes every network.

    Raises:
        ValueError: a target below a nanosecond, or none.
    """

    target_ms: float

    def __post_init__(self) -> None:
        positive_ms("target_ms", self.target_ms)
        if self.target_ms < SHORTEST_MS:
            raise ValueError(f"target_ms is {self.target_ms}; expected {SHORTEST_MS:.6f} milliseconds, a nanosecond, or more")

    def feasible(self, latencies_ms: Figures) -> Mask:
        """Return that all are."""
        return np.ones(len(latencies_ms), dtype=np.bool_)


@dataclass(frozen=True)
class WeightedProduct(_Reward):
    """accuracy * (latency / target)^exponent, `below` the target and `above` it."""

    target_ms: float
    below: float = SOFT
    above: float = SOFT

    def values(self, accuracies: Figures, latencies_ms: Figures) -> Figures:
        """Return the rewards."""
        ratios = latencies_ms / self.target_ms
        return np.asarray(accuracies * ratios ** np.where(ratios <= 1, self.below, self.above))


@dataclass(frozen=True)
class WeightedSum(_Reward):
    """accuracy + weight * |latency - target| in milliseconds, with the weight `below` the target and `above` it; weights of zero or less.

    What a millisecond is worth depends on the device, so no weight is the default.
    """

    target_ms: float
    below: float
    above: float

    def values(self, accuracies: Figures, latencies_ms: Figures) -> Figures:
        """Return the rewards."""
        beyond_ms = latencies_ms - self.target_ms
        return np.asarray(accuracies + np.where(beyond_ms <= 0, self.below, self.above) * np.abs(beyond_ms))


def hard_sum(target_ms: float) -> WeightedSum:
    """Return the sum with the hard product's exponents as weights, in units of the target: the same on slow devices and fast ones.

    Raises:
        ValueError: a target below a nanosecond, or none.
    """
    positive_ms("target_ms", target_ms)
    return WeightedSum(target_ms, *(weight / target_ms for weight in HARD))


@dataclass(frozen=True)
class AbsoluteDeviation(_Reward):
    """accuracy + weight * |latency / target - 1|, weight below zero: it hits the target where a product only leans on it."""

    target_ms: float
    weight: float = SOFT

    def values(self, accuracies: Figures, latencies_ms: Figures) -> Figures:
        """Return the rewards."""
        return np.asarray(accuracies + self.weight * np.abs(latencies_ms / self.target_ms - 1))


# By name: from the budget or target in milliseconds and the safety margin, which only a budget has.
OBJECTIVES: dict[str, Callable[[float, float], Objective]] = {
    "budget": ConstrainedMaximum,
    "soft-product": lambda target_ms, _: WeightedProduct(target_ms),
    "hard-product": lambda target_ms, _: WeightedProduct(target_ms, *HARD),
    "weighted-sum": lambda target_ms, _: hard_sum(target_ms),
    "absolute-deviation": lambda target_ms, _: AbsoluteDeviation(target_ms),
}


class UnknownObjectiveError(KeyError):
    """No objective has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def objective_of(name: str, latency_ms: float, safety_margin: float = 0.0) -> Objective:
    """Return the objective of this name for a budget or target.

    Raises:
        UnknownObjectiveError: no objective has that name.
        ValueError: a latency that is not positive, a target below a nanosecond, or a safety margin for what is no budget.
    """
    if name not in OBJECTIVES:
        raise UnknownObjectiveError(f"unknown objective {name!r}; known objectives: {', '.join(OBJECTIVES)}")
    if safety_margin and name != "budget":
        raise ValueError(f"safety_margin is {safety_margin}, but objective {name!r} has a target and no budget; leave the margin at 0")
    return OBJECTIVES[name](latency_ms, safety_margin)
