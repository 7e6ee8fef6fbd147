"""Search strategies by name; each proposes populations (`ask`) and learns from the scored ones (`tell`).

A strategy knows neither budget nor predictors: the driver drops what it has seen or what is too slow. Its first `tell`
brings the lowest-latency network, before any `ask`.
"""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

from search.objectives import Candidates
from search.settings import SearchSettings
from supernets.space import Population, SearchSpace

STRATEGIES = {
    "coarse-to-fine": "search.strategies.coarse_to_fine:CoarseToFine",
    "evolution": "search.strategies.evolution:Evolution",
    "exhaustive": "search.strategies.exhaustive:Exhaustive",
    "random": "search.strategies.random_search:RandomSearch",
    "rl-controller": "search.strategies.rl_controller:RlController",
}


class UnknownStrategyError(KeyError):
    """No strategy has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class Strategy(Protocol):
    """Proposes architectures and learns from those that were scored."""

    def ask(self, count: int) -> Population:
        """Return `count` proposals, shape (count, n_choices); repeats and too slow ones are allowed."""

    def tell(self, scored: Candidates) -> None:
        """Learn from one generation: candidates never told before, all feasible; what they are worth is in their `values`."""


def create(name: str, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> Strategy:
    """Return a new strategy of this name.

    Raises:
        UnknownStrategyError: no strategy has that name.
        ValueError: the strategy does not work on this space.
        ImportError: the package it learns with is not installed.
    """
    if name not in STRATEGIES:
        raise UnknownStrategyError(f"unknown search strategy {name!r}; known strategies: {', '.join(sorted(STRATEGIES))}")
    module, _, class_name = STRATEGIES[name].partition(":")
    strategy: Strategy = getattr(importlib.import_module(module), class_name)(space, settings, rng)
    return strategy
