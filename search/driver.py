"""The one loop that drives every strategy: the lowest latency first, then generations of networks never seen before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from search.lowest import lowest_latency
from search.objectives import BudgetError, Candidate, Candidates, Objective
from search.pareto import ParetoArchive
from search.rewards import objective_of
from search.scoring import Estimate, Scoreboard
from search.settings import SearchSettings
from search.strategies import Strategy, create
from supernets.space import Population, SearchSpace

MAX_OVERSAMPLING = 4  # proposals asked for at once, per network still wanted, however few of them keep the budget
MAX_EMPTY_GENERATIONS = 5  # in a row without one new network within the budget: nothing is left to find


@dataclass(frozen=True)
class HistoryPoint:
    """The best network so far after a generation (0: the lowest-latency network alone), and how many were scored until then."""

    generation: int
    evaluations: int
    accuracy: float
    latency_ms: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found: the best network by its objective, `finalists` (the best different ones, best first) and more.

    `front` holds the most accurate network scored at each latency, lowest latency first; `lowest` the network of the
    lowest reachable latency; `evaluations` counts networks scored, `latency_evaluations` networks whose latency was looked up.
    """

    best: Candidate
    finalists: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    lowest: Candidate
    history: tuple[HistoryPoint, ...]
    evaluations: int
    latency_evaluations: int
    max_latency_ms: float
    safety_margin: float
    objective: str
    strategy: str
    settings: SearchSettings
    seed: int

    @property
    def lowest_latency_ms(self) -> float:
        """The lowest reachable latency."""
        return self.lowest.latency_ms

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-serialisable mapping."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "best": self.best.to_dict(),
            "finalists": [candidate.to_dict() for candidate in self.finalists],
            "front": [candidate.to_dict() for candidate in self.front],
            "lowest": self.lowest.to_dict(),
            "history": [asdict(point) for point in self.history],
            "settings": self.settings.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchResult:
        """Return the result that `to_dict` described.

        Raises:
            ValueError: other keys than those of `to_dict`, or a value its class refuses.
        """
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise ValueError(f"a search result has the keys {', '.join(sorted(names))}; this one differs in {', '.join(sorted(set(data) ^ names))}")
        rebuilt = {
            "best": Candidate.from_dict(data["best"]),
            "finalists": tuple(Candidate.from_dict(candidate) for candidate in data["finalists"]),
            "front": tuple(Candidate.from_dict(candidate) for candidate in data["front"]),
            "lowest": Candidate.from_dict(data["lowest"]),
            "history": tuple(HistoryPoint(**point) for point in data["history"]),
            "settings": SearchSettings.from_dict(data["settings"]),
        }
        return cls(**{**data, **rebuilt})


def search(
    space: SearchSpace,
    accuracy: Estimate,
    latency: Estimate,
    max_latency_ms: float,
    strategy: str = "evolution",
    settings: SearchSettings | None = None,
    seed: int = 0,
    progress: Callable[[HistoryPoint], None] | None = None,
    safety_margin: float = 0.0,
    objective: str = "budget",
    guide: Estimate | None = None,
) -> SearchResult:
    """Return the best networks of a (restricted) space by an objective: the most accurate ones whose latency keeps a budget, or another.

    `accuracy` and `latency` take a population (n, n_choices) and return one figure each, shape (n,); each network is
    looked up once. `max_latency_ms` is the budget, or the target of another objective (`search.rewards`); `safety_margin` is
    the share by which latency may turn out higher than estimated (0.05: five percent). `progress` is called after each
    generation. The same seed gives the same result.

    The lowest-latency network is found by thousands of look-ups first. Where `latency` measures on a device, give a `guide`, such
    as multiply-adds: that network is then the lowest by the guide, and its latency is looked up like any other's.

    Raises:
        BudgetError: no network keeps the budget; it says which budget one would keep.
        EstimateError: `accuracy` or `latency` returned something else than finite numbers.
        UnknownStrategyError, UnknownObjectiveError: no strategy or objective has that name.
        ValueError: a budget or margin out of range, or a strategy that does not work on this space.
        ImportError: the package the strategy learns with is not installed.
    """
    aim = objective_of(objective, max_latency_ms, safety_margin)
    settings = settings or SearchSettings()
    rng = np.random.default_rng(seed)
    proposer = create(strategy, space, settings, rng)
    scoreboard = Scoreboard(accuracy, latency)
    looked_up = scoreboard if guide is None else Scoreboard(accuracy, guide)
    lowest = lowest_latency(space, looked_up.latencies_ms, rng)
    lowest_ms = float(scoreboard.latencies_ms(lowest)[0])
    _refuse_infeasible(space, lowest, lowest_ms, aim, max_latency_ms, safety_margin)
    start = scoreboard.score(lowest)
    finalists, archive, history = _generations(proposer, scoreboard, aim, settings, start, progress)
    named = _candidates(space, finalists)
    return SearchResult(
        best=named[0], finalists=named, front=_candidates(space, archive.front), lowest=_candidates(space, start)[0], history=tuple(history),
        evaluations=scoreboard.evaluations, latency_evaluations=scoreboard.latency_evaluations, max_latency_ms=max_latency_ms,
        safety_margin=safety_margin, objective=objective, strategy=strategy, settings=settings, seed=seed,
    )  # fmt: skip


def refuse_unreachable(space: SearchSpace, latency: Estimate, max_latency_ms: float, objective: str = "budget", seed: int = 0) -> None:
    """Do nothing where some network of the space keeps the budget: what `search` refuses, for whom accuracies take hours to come by.

    Raises:
        BudgetError: no network keeps the budget; it says which budget one would keep.
        UnknownObjectiveError: no objective has that name.
        ValueError: a budget out of range.
    """
    lowest = lowest_latency(space, latency, np.random.default_rng(seed))
    _refuse_infeasible(space, lowest, float(latency(lowest)[0]), objective_of(objective, max_latency_ms), max_latency_ms)


def _refuse_infeasible(
    space: SearchSpace, lowest: Population, lowest_ms: float, aim: Objective, max_latency_ms: float, safety_margin: float = 0.0
) -> None:
    if not aim.feasible(np.array([lowest_ms]))[0]:
        raise BudgetError(space.name, max_latency_ms, lowest_ms, space.decode(lowest)[0], safety_margin)


def _generations(
    strategy: Strategy,
    scoreboard: Scoreboard,
    objective: Objective,
    settings: SearchSettings,
    start: Candidates,
    progress: Callable[[HistoryPoint], None] | None,
) -> tuple[Candidates, ParetoArchive, list[HistoryPoint]]:
    """Return finalists, front and history after all generations, or after several without anything new."""
    archive, finalists, history = ParetoArchive(), start.take(slice(0)), []
    found, share, empty = start, 1.0, 0
    for generation in range(settings.generations + 1):
        if generation:
            proposals, share = _proposals(strategy, scoreboard, objective, settings, share)
            found = scoreboard.score(proposals)
        found = objective.valued(found)
        strategy.tell(found)
        archive.add(found)
        finalists = finalists.with_more(found)
        finalists = finalists.take(objective.best_first(finalists)[: settings.finalists])
        history.append(HistoryPoint(generation, scoreboard.evaluations, float(finalists.accuracies[0]), float(finalists.latencies_ms[0])))
        if progress is not None:
            progress(history[-1])
        empty = 0 if len(found) else empty + 1
        if empty == MAX_EMPTY_GENERATIONS:
            break
    return finalists, archive, history


def _proposals(strategy: Strategy, scoreboard: Scoreboard, objective: Objective, settings: SearchSettings, share: float) -> tuple[Population, float]:
    """Return up to one generation of different networks within the budget, none scored before; and the share of proposals that were.

    `share` is what to expect of it: the last generation's.
    """
    kept: list[Population] = []
    missing, asked_in_all, kept_in_all = settings.population_size, 0, 0
    for _ in range(settings.attempts):
        asked = math.ceil(missing / max(share, 1 / MAX_OVERSAMPLING))
        fresh = scoreboard.unscored(np.concatenate([*kept, strategy.ask(asked)]))[sum(map(len, kept)) :]
        within = fresh[objective.feasible(scoreboard.latencies_ms(fresh))]
        asked_in_all, kept_in_all = asked_in_all + asked, kept_in_all + len(within)
        share = kept_in_all / asked_in_all
        kept.append(within[:missing])
        missing -= len(kept[-1])
        if not missing:
            break
    return np.concatenate(kept), share


def _candidates(space: SearchSpace, candidates: Candidates) -> tuple[Candidate, ...]:
    rows = zip(space.decode(candidates.population), candidates.accuracies.tolist(), candidates.latencies_ms.tolist(), strict=True)
    return tuple(Candidate(*row) for row in rows)
