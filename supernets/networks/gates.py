"""Gates that choose branches under a budget, learned by gradient (RepNAS, Zhang et al., 2021, section 3.3).

Every candidate i has a parameter alpha_i. Scores r = alpha + logistic noise; the best affordable set S of them all has
gates of value 1 and of gradient dc_i/dr_i = sigmoid'(r_i), all others are not computed and learn nothing. What is best is
exact: the k largest scores where branches cost the same, else the 0/1 knapsack of values sigmoid(r).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from supernets.spaces.repnas import BRANCHES, SKIP

SCOPES = ("network", "block")
SKIPS = ("searched", "forced")

Scores: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class BranchBudget:
    """How many branches are kept: of the network's candidates together, or of each block's (`scope`).

    They may cost `limit` together, or the part `fraction` of what all candidates cost, rounded down. A branch costs 1 unless
    `costs` gives its kind a whole number, so by default the limit is their number. A `forced` skip is always kept, costs
    nothing and is no candidate.

    Raises:
        ValueError: a field out of range, or not one of limit and fraction.
    """

    limit: int | None = None
    fraction: float | None = None
    scope: str = "network"
    skip: str = "searched"
    costs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", MappingProxyType(dict(self.costs)))
        if (self.limit is None) == (self.fraction is None):
            raise ValueError(f"a branch budget has limit {self.limit} and fraction {self.fraction}; expected one of them")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit of a branch budget is {self.limit}; expected at least 1")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"fraction of a branch budget is {self.fraction}; expected more than 0, at most 1")
        for name, known in (("scope", SCOPES), ("skip", SKIPS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} of a branch budget is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        for branch, cost in self.costs.items():
            if branch not in BRANCHES or not isinstance(cost, int) or isinstance(cost, bool) or cost < 1:
                raise ValueError(f"cost of branch {branch!r} is {cost!r}; expected whole numbers from 1 for some of {', '.join(BRANCHES)}")

    def cost(self, candidate: str) -> int:
        """Return what a candidate, `<block>.<branch>`, costs."""
        return self.costs.get(candidate.rpartition(".")[2], 1)

    def of(self, costs: Sequence[int]) -> int:
        """Return what may be spent on candidates of these costs."""
        return self.limit if self.limit is not None else math.floor((self.fraction or 0) * sum(costs) + 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {"limit": self.limit, "fraction": self.fraction, "scope": self.scope, "skip": self.skip, "costs": dict(self.costs)}


class BranchGates:
    """The gates of a network's branches, named `<block>.<branch>`; `alpha` (n_candidates,) is what is learned of them."""

    def __init__(self, names: Iterable[str], budget: BranchBudget) -> None:
        names = tuple(names)
        self.budget = budget
        self.forced = tuple(name for name in names if budget.skip == "forced" and name.endswith(f".{SKIP}"))
        self.candidates = tuple(name for name in names if name not in self.forced)
        self.alpha = torch.zeros(len(self.candidates), requires_grad=True)
        blocks = dict.fromkeys(name.rpartition(".")[0] for name in self.candidates)
        together = [self.candidates] if budget.scope == "network" else [[n for n in self.candidates if n.rpartition(".")[0] == b] for b in blocks]
        self._groups = [np.array([self.candidates.index(name) for name in group], dtype=np.intp) for group in together]
        self._costs = np.array([budget.cost(name) for name in self.candidates], dtype=np.int64)

    def scores(self, rng: np.random.Generator | None = None, learned: bool = True) -> Tensor:
        """Return the candidates' scores: alpha (zeros where it is not `learned` yet), and noise if a generator is given."""
        scores = self.alpha if learned else torch.zeros(len(self.candidates))
        if rng is None:
            return scores
        return scores + torch.from_numpy(rng.logistic(size=len(self.candidates))).to(scores.dtype)  # the difference of two Gumbel draws

    def chosen(self, scores: Tensor) -> Mask:
        """Return which candidates the best affordable set of these scores has, shape (n_candidates,)."""
        values = scores.detach().double().numpy()
        mask = np.zeros(len(self.candidates), dtype=np.bool_)
        for group in self._groups:
            costs = self._costs[group]
            mask[group] = best_affordable(values[group], costs, self.budget.of(costs.tolist()))
        return mask

    def gates(self, scores: Tensor) -> dict[str, Tensor]:
        """Return name → gate, of value 1 exactly, of every candidate chosen; forced ones have none."""
        chosen = self.chosen(scores)
        values = straight_through(scores, torch.from_numpy(chosen))
        return {self.candidates[i]: values[i] for i in np.flatnonzero(chosen).tolist()}

    def kept(self, gates: Iterable[str]) -> dict[str, int]:
        """Return name → 1 or 0 for every branch: those with a gate, and the forced ones, are kept."""
        on = {*gates, *self.forced}
        return {name: int(name in on) for name in (*self.candidates, *self.forced)}


def straight_through(scores: Tensor, mask: Tensor) -> Tensor:
    """Return gates: their value is that of the mask, 0 or 1 exactly, their gradient that of the sigmoid of the scores."""
    soft = torch.sigmoid(scores)
    return mask.to(scores.dtype) + (soft - soft.detach())


def best_affordable(scores: Scores, costs: np.ndarray[Any, np.dtype[np.int64]], budget: int) -> Mask:
    """Return the affordable set of the largest sum of sigmoid(score): exactly as many as the budget buys, where all cost the same.

    Ties go to the first ones.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.bool_)
    if (costs == costs[0]).all():
        mask = np.zeros(len(scores), dtype=np.bool_)
        mask[np.argsort(-scores, kind="stable")[: budget // int(costs[0])]] = True
        return mask
    return knapsack(1 / (1 + np.exp(-np.clip(scores, -500, 500))), costs, budget)


def knapsack(values: Scores, costs: np.ndarray[Any, np.dtype[np.int64]], budget: int) -> Mask:
    """Return the set of largest value that costs at most the budget; values are above 0, costs whole numbers from 1.

    By dynamic programming over what is spent, items from the last to the first.
    """
    budget = min(budget, int(costs.sum()))
    best = np.zeros((len(values) + 1, budget + 1))
    for i in range(len(values) - 1, -1, -1):
        best[i] = best[i + 1]
        cost = int(costs[i])
        if cost <= budget:
            best[i, cost:] = np.maximum(best[i + 1, cost:], best[i + 1, : budget + 1 - cost] + values[i])
    mask, left = np.zeros(len(values), dtype=np.bool_), budget
    for i, cost in enumerate(costs.tolist()):
        if cost <= left and best[i + 1, left - cost] + values[i] >= best[i + 1, left]:
            mask[i], left = True, left - cost
    return mask
