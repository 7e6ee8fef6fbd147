from __future__ import annotations

import json

import numpy as np
import pytest

from search.driver import HistoryPoint, SearchResult, refuse_unreachable, search
from search.objectives import BudgetError, Candidate, ConstrainedMaximum
from search.pareto import non_dominated
from search.scoring import EstimateError, Scoreboard, row_keys
from search.settings import SearchSettings
from search.strategies import STRATEGIES, UnknownStrategyError
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Architecture, Population, SearchSpace
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
QUICK = SearchSettings(population_size=20, generations=15)
every = pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"exhaustive"}))  # that one takes small spaces only


def scatter(text: str) -> float:
    """Return a fixed number between 0 and 1 that has nothing to do with size, so that the problem is rugged."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 9973 / 9973


def block_latency_ms(block: BlockSpec) -> float:
    return 0.01 + block_macs(block) / 2e7 * (0.6 + 0.8 * scatter(block.key))


LATENCY = AdditiveCost(TINY, block_latency_ms)
_CAPACITY = AdditiveCost(TINY, lambda block: np.sqrt(block_macs(block) / 1e6) * (0.5 + scatter(block.key[::-1])))


def accuracy(population: Population) -> np.ndarray:
    """Return a rugged accuracy between 0.5 and 0.9 that rises with capacity, with an interaction no sum over blocks has."""
    return 0.5 + 0.4 * np.tanh(_CAPACITY(population) / 10) + 0.002 * np.sin(population.astype(np.float64) @ np.arange(population.shape[1]))


def small_space() -> SearchSpace:
    """Return a space of about eight thousand networks, few enough to enumerate."""
    fixed: dict[str, tuple[int | float | str, ...]] = {"resolution": (20, 28), "stage1.depth": (2,), "stage2.depth": (2, 3), "stage3.depth": (2,)}
    for stage in (1, 3):
        for block in range(4):
            fixed[f"stage{stage}.block{block}.kernel_size"] = (3, 7)
            fixed[f"stage{stage}.block{block}.expand_ratio"] = (4,)
    for block in range(4):
        fixed[f"stage2.block{block}.kernel_size"] = (3, 5)
        fixed[f"stage2.block{block}.expand_ratio"] = (3, 6)
    return TINY.restrict(fixed)


SMALL = small_space()
EVERY_SMALL = SMALL.encode(SMALL.enumerate())
RANDOM_MS = LATENCY(TINY.sample_population(2000, np.random.default_rng(0)))


class Counting:
    """Passes a population on and counts how often each network is looked up."""

    def __init__(self, estimate: object) -> None:
        self.estimate, self.seen = estimate, {}

    def __call__(self, population: Population) -> np.ndarray:
        for key in row_keys(population):
            self.seen[key] = self.seen.get(key, 0) + 1
        return self.estimate(population)  # type: ignore[operator]


@every
@pytest.mark.parametrize("quantile", [0.002, 0.1, 0.5, 1.0])
def test_nothing_it_returns_exceeds_the_budget(strategy: str, quantile: float) -> None:
    budget = float(np.quantile(RANDOM_MS, quantile))
    result = search(TINY, accuracy, LATENCY, budget, strategy, QUICK)
    returned = [result.best, *result.finalists, *result.front]
    codes = TINY.encode([candidate.architecture for candidate in returned])
    assert (LATENCY(codes) <= budget).all()
    assert LATENCY(codes).tolist() == [candidate.latency_ms for candidate in returned]
    assert accuracy(codes) == pytest.approx([candidate.accuracy for candidate in returned], abs=1e-12)


@every
def test_a_safety_margin_is_kept_below_the_budget(strategy: str) -> None:
    budget = float(np.quantile(RANDOM_MS, 0.3))
    result = search(TINY, accuracy, LATENCY, budget, strategy, QUICK, safety_margin=0.1)
    assert all(candidate.latency_ms * 1.1 <= budget for candidate in (*result.finalists, *result.front))


@every
def test_the_same_seed_gives_the_same_result(strategy: str) -> None:
    budget = float(np.quantile(RANDOM_MS, 0.3))
    first, second, other = (search(TINY, accuracy, LATENCY, budget, strategy, QUICK, seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert first.finalists != other.finalists


@every
@pytest.mark.parametrize("quantile", [0.01, 0.5])
def test_no_network_is_looked_up_twice(strategy: str, quantile: float) -> None:
    scored, timed = Counting(accuracy), Counting(LATENCY)
    result = search(TINY, scored, timed, float(np.quantile(RANDOM_MS, quantile)), strategy, QUICK)
    assert set(scored.seen.values()) == {1} and set(timed.seen.values()) == {1}
    assert (result.evaluations, result.latency_evaluations) == (len(scored.seen), len(timed.seen))
    assert set(scored.seen) <= set(timed.seen)


@pytest.mark.parametrize("quantile", [0.02, 0.2, 0.6])
def test_evolution_finds_the_best_of_an_enumerated_space(quantile: float) -> None:
    latencies_ms, accuracies = LATENCY(EVERY_SMALL), accuracy(EVERY_SMALL)
    budget = float(np.quantile(latencies_ms, quantile))
    best = accuracies[latencies_ms <= budget].max()
    result = search(SMALL, accuracy, LATENCY, budget, settings=SearchSettings(population_size=50, generations=40), seed=1)
    assert result.evaluations <= 1 + 50 * 40 < len(EVERY_SMALL)
    assert result.best.accuracy == pytest.approx(best, abs=1e-12)


def test_evolution_beats_random_search_at_equal_cost() -> None:
    budget = float(np.quantile(RANDOM_MS, 0.2))
    settings = SearchSettings(population_size=40, generations=40)
    evolved, drawn = (search(TINY, accuracy, LATENCY, budget, name, settings) for name in ("evolution", "random"))
    assert evolved.best.accuracy > drawn.best.accuracy
    assert evolved.evaluations <= drawn.evaluations * 1.1


@every
def test_finalists_are_different_sorted_and_led_by_the_best(strategy: str) -> None:
    result = search(TINY, accuracy, LATENCY, float(np.median(RANDOM_MS)), strategy, QUICK)
    accuracies = [candidate.accuracy for candidate in result.finalists]
    assert len({candidate.architecture for candidate in result.finalists}) == len(result.finalists) == QUICK.finalists
    assert accuracies == sorted(accuracies, reverse=True)
    assert result.best == result.finalists[0]


@every
def test_no_network_on_the_front_is_beaten_and_the_best_ends_it(strategy: str) -> None:
    result = search(TINY, accuracy, LATENCY, float(np.median(RANDOM_MS)), strategy, QUICK)
    costs = np.array([[candidate.latency_ms, -candidate.accuracy] for candidate in result.front])
    assert non_dominated(costs).tolist() == list(range(len(result.front)))
    assert result.front[-1].accuracy == result.best.accuracy


@every
def test_the_history_never_falls_and_ends_at_the_best(strategy: str) -> None:
    seen: list[HistoryPoint] = []
    result = search(TINY, accuracy, LATENCY, float(np.median(RANDOM_MS)), strategy, QUICK, progress=seen.append)
    accuracies = [point.accuracy for point in result.history]
    assert tuple(seen) == result.history
    assert [point.generation for point in seen] == list(range(QUICK.generations + 1))
    assert accuracies == sorted(accuracies) and accuracies[-1] == result.best.accuracy
    assert seen[0].evaluations == 1 and seen[-1].evaluations == result.evaluations <= 1 + 15 * 20


@every
def test_an_impossible_budget_is_refused_with_the_budget_that_works(strategy: str) -> None:
    lowest_ms = float(LATENCY(EVERY_SMALL).min())
    with pytest.raises(BudgetError, match="no network of space 'ofa-mobilenetv3-tiny' keeps a latency budget of 0.01 ms: the lowest") as caught:
        search(SMALL, accuracy, LATENCY, 0.01, strategy, QUICK)
    assert caught.value.lowest_latency_ms == pytest.approx(lowest_ms, abs=1e-12)
    assert LATENCY(SMALL.encode([caught.value.architecture]))[0] == caught.value.lowest_latency_ms
    advised = float(str(caught.value).split("raise the budget to ")[1].split()[0])
    assert search(SMALL, accuracy, LATENCY, advised, strategy, QUICK).lowest_latency_ms == caught.value.lowest_latency_ms


def test_an_impossible_budget_can_be_told_before_there_are_accuracies() -> None:
    lowest_ms = float(LATENCY(EVERY_SMALL).min())
    with pytest.raises(BudgetError) as caught:
        refuse_unreachable(SMALL, LATENCY, lowest_ms * 0.999)
    assert caught.value.lowest_latency_ms == pytest.approx(lowest_ms, abs=1e-12)
    refuse_unreachable(SMALL, LATENCY, lowest_ms * 1.001)
    refuse_unreachable(SMALL, LATENCY, lowest_ms * 0.5, "soft-product")  # a target, which may be missed


def test_a_margin_that_makes_the_budget_impossible_is_named() -> None:
    lowest_ms = float(LATENCY(EVERY_SMALL).min())
    with pytest.raises(BudgetError, match=r"with a safety margin of 20.0%") as caught:
        search(SMALL, accuracy, LATENCY, lowest_ms * 1.1, settings=QUICK, safety_margin=0.2)
    advised = float(str(caught.value).split("raise the budget to ")[1].split()[0])
    assert search(SMALL, accuracy, LATENCY, advised, settings=QUICK, safety_margin=0.2).best.latency_ms * 1.2 <= advised


@every
def test_a_budget_that_one_network_alone_keeps_is_solved(strategy: str) -> None:
    latencies_ms = LATENCY(EVERY_SMALL)
    lowest, second = np.argsort(latencies_ms)[:2]
    result = search(SMALL, accuracy, LATENCY, float(latencies_ms[[lowest, second]].mean()), strategy, QUICK)
    assert result.finalists == result.front == (result.best,) == (result.lowest,)
    assert result.best.architecture == SMALL.decode(EVERY_SMALL[[lowest]])[0]
    assert result.evaluations == 1


def reachable(start: Architecture, budget_ms: float) -> set[Architecture]:
    """Return every network that steps of one slot reach from `start` without ever leaving the budget."""
    found = edge = {start}
    while edge:
        near = list({neighbour for architecture in edge for neighbour in TINY.neighbours(architecture)} - found)
        edge = {neighbour for neighbour, kept in zip(near, LATENCY(TINY.encode(near)) <= budget_ms, strict=True) if kept}
        found = found | edge
    return found


def test_under_a_budget_no_random_network_keeps_evolution_still_finds_the_best() -> None:
    lowest = search(TINY, accuracy, LATENCY, 1e9, settings=SearchSettings(population_size=1, generations=1)).lowest
    budget = lowest.latency_ms * 1.05
    assert (budget < RANDOM_MS).all()
    within = reachable(lowest.architecture, budget)
    assert len(within) > 100
    result = search(TINY, accuracy, LATENCY, budget, settings=SearchSettings(population_size=50, generations=50))
    assert result.best.accuracy >= accuracy(TINY.encode(within)).max()


@every
def test_a_space_with_nothing_left_ends_the_search(strategy: str) -> None:
    kernels = {f"stage{stage}.block0.kernel_size": [3] for stage in (1, 3)}
    few = SMALL.restrict({"resolution": [20], "stage2.depth": [2], **kernels, "stage1.block1.kernel_size": [7]})
    result = search(few, accuracy, LATENCY, 1e6, strategy, SearchSettings(population_size=50, generations=200))
    assert result.evaluations == few.size() == 32
    assert len(result.history) < 30


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_positive_number_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="max_latency_ms is"):
        search(TINY, accuracy, LATENCY, budget, settings=QUICK)


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="safety_margin is -0.1"):
        ConstrainedMaximum(5.0, -0.1)


def test_an_unknown_strategy_is_refused_before_anything_is_looked_up() -> None:
    timed = Counting(LATENCY)
    with pytest.raises(UnknownStrategyError):
        search(TINY, accuracy, timed, 5.0, "annealing", QUICK)
    assert not timed.seen


def test_a_latency_that_is_not_a_number_is_refused_not_summed() -> None:
    with pytest.raises(EstimateError, match=r"the latency of \d+ of \d+ architectures is not a finite number"):
        search(TINY, accuracy, AdditiveCost(TINY, lambda block: float("nan") if block.kernel_size == 7 else 1.0), 50.0, settings=QUICK)


@pytest.mark.parametrize("off", [0.0, -1.0])
def test_a_latency_that_is_not_above_zero_is_refused_and_no_reward_is_made_of_it(off: float) -> None:
    with pytest.raises(EstimateError, match=r"the latency of \d+ of \d+ architectures is not above zero, such as "):
        search(TINY, accuracy, lambda population: np.full(len(population), off), 5.0, settings=QUICK, objective="soft-product")


def test_an_accuracy_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(EstimateError, match=r"the accuracy function returned shape \(1, 1\) for 1 architectures"):
        search(TINY, lambda population: accuracy(population)[:, None], LATENCY, 50.0, settings=QUICK)


def test_scoring_a_network_again_is_refused() -> None:
    scoreboard = Scoreboard(accuracy, LATENCY)
    rows = TINY.sample_different(3, np.random.default_rng(0))
    scoreboard.score(rows[:2])
    assert np.array_equal(scoreboard.unscored(rows[[0, 2, 2, 1]]), rows[[2]])
    with pytest.raises(ValueError, match="twice"):
        scoreboard.score(rows[1:])


def test_a_result_survives_a_json_round_trip_and_refuses_other_keys() -> None:
    result = search(TINY, accuracy, LATENCY, float(np.median(RANDOM_MS)), settings=SearchSettings(population_size=5, generations=2))
    data = json.loads(json.dumps(result.to_dict()))
    assert SearchResult.from_dict(data) == result
    with pytest.raises(ValueError, match="this one differs in colour"):
        SearchResult.from_dict({**data, "colour": "blue"})
    with pytest.raises(ValueError, match="a candidate is a mapping of"):
        Candidate.from_dict({"accuracy": 1.0})
