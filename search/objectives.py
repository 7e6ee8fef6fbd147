"""What a search is for, and what it hands round: candidates, and the objectives that rank them; see also `search.rewards`.

Accuracies are on the scale the accuracy function uses (higher is better), latencies in milliseconds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from supernets.space import Architecture, Population

Figures = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Indices = np.ndarray[Any, np.dtype[np.intp]]


class BudgetError(ValueError):
    """No network meets the budget; `lowest_latency_ms` is what the nearest one, `architecture`, takes."""

    def __init__(self, space: str, max_latency_ms: float, lowest_latency_ms: float, architecture: Architecture, safety_margin: float = 0.0) -> None:
        self.max_latency_ms, self.lowest_latency_ms, self.architecture = max_latency_ms, lowest_latency_ms, architecture
        margin = f" with a safety margin of {safety_margin:.1%}" if safety_margin else ""
        needed = math.ceil(lowest_latency_ms * (1 + safety_margin) * 1000) / 1000
        super().__init__(
            f"no network of space {space!r} keeps a latency budget of {max_latency_ms:g} ms{margin}: the lowest reachable latency is "
            f"{lowest_latency_ms:.4g} ms; raise the budget to {needed:.10g} ms or more, or take a space with smaller networks or resolutions"
        )


@dataclass(frozen=True)
class Candidates:
    """Scored architectures: population (n, n_choices), accuracies (n,), latencies_ms (n,), and values (n,): what the objective makes of both.

    Higher values are better; without an objective they are the accuracies.
    """

    population: Population
    accuracies: Figures
    latencies_ms: Figures
    values: Figures = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not len(self.values):
            object.__setattr__(self, "values", self.accuracies)
        if not len(self.population) == len(self.accuracies) == len(self.latencies_ms) == len(self.values):
            raise ValueError(
                f"candidates hold {len(self.population)} architectures, {len(self.accuracies)} accuracies, {len(self.latencies_ms)} latencies and "
                f"{len(self.values)} values; expected as many of each"
            )

    def __len__(self) -> int:
        return len(self.population)

    def take(self, rows: Indices | Mask | slice) -> Candidates:
        """Return the candidates of these rows."""
        return Candidates(self.population[rows], self.accuracies[rows], self.latencies_ms[rows], self.values[rows])

    def with_more(self, others: Candidates) -> Candidates:
        """Return these candidates followed by others."""
        return Candidates(
            np.concatenate([self.population, others.population]), np.concatenate([self.accuracies, others.accuracies]),
            np.concatenate([self.latencies_ms, others.latencies_ms]), np.concatenate([self.values, others.values]),
        )  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """One scored architecture; both figures are predictions wherever the search was given predictors."""

    architecture: Architecture
    accuracy: float
    latency_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as a JSON-serialisable mapping."""
        return {"architecture": self.architecture.to_dict(), "accuracy": self.accuracy, "latency_ms": self.latency_ms}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Return the candidate that `to_dict` described.

        Raises:
            ValueError: other keys than those of `to_dict`.
        """
        if set(data) != {"architecture", "accuracy", "latency_ms"}:
            raise ValueError(f"a candidate is a mapping of architecture, accuracy and latency_ms, but this one holds {sorted(data)}")
        return cls(Architecture.from_dict(data["architecture"]), float(data["accuracy"]), float(data["latency_ms"]))


class Objective(ABC):
    """What a search maximises: a value of each network's accuracy and latency, of networks it takes at all."""

    @abstractmethod
    def feasible(self, latencies_ms: Figures) -> Mask:
        """Return which latencies are taken at all, shape (n,)."""

    @abstractmethod
    def values(self, accuracies: Figures, latencies_ms: Figures) -> Figures:
        """Return what networks are worth, shape (n,); higher is better."""

    def valued(self, candidates: Candidates) -> Candidates:
        """Return the candidates with this objective's values."""
        return replace(candidates, values=self.values(candidates.accuracies, candidates.latencies_ms))

    def best_first(self, candidates: Candidates) -> Indices:
        """Return the rows of the feasible candidates: higher value first, then lower latency, then as given."""
        order = np.lexsort((candidates.latencies_ms, -self.values(candidates.accuracies, candidates.latencies_ms)))
        return order[self.feasible(candidates.latencies_ms)[order]]


@dataclass(frozen=True)
class ConstrainedMaximum(Objective):
    """The highest accuracy among networks whose latency, `safety_margin` added (0.05: five percent), is within the budget.

    Raises:
        ValueError: a budget that is not a positive number, or a negative margin.
    """

    max_latency_ms: float
    safety_margin: float = 0.0

    def __post_init__(self) -> None:
        positive_ms("max_latency_ms", self.max_latency_ms)
        if not (math.isfinite(self.safety_margin) and self.safety_margin >= 0):
            raise ValueError(f"safety_margin is {self.safety_margin}; expected a share of the latency such as 0.05, or 0 for none")

    def feasible(self, latencies_ms: Figures) -> Mask:
        """Return which latencies keep the budget, shape (n,)."""
        kept: Mask = latencies_ms * (1 + self.safety_margin) <= self.max_latency_ms
        return kept

    def values(self, accuracies: Figures, latencies_ms: Figures) -> Figures:
        """Return the accuracies."""
        return accuracies


def positive_ms(name: str, value_ms: float) -> None:
    """Do nothing where the value is a positive number.

    Raises:
        ValueError: it is not.
    """
    if not (math.isfinite(value_ms) and value_ms > 0):
        raise ValueError(f"{name} is {value_ms}; expected a positive number of milliseconds")
