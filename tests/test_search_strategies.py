from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search.driver import search
from search.objectives import Candidates
from search.rewards import objective_of
from search.settings import SearchSettings
from search.strategies import STRATEGIES, UnknownStrategyError, create
from search.strategies.coarse_to_fine import coarse_set
from supernets.space import OFF, Population, SearchSpace, unique_rows
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
every = pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"exhaustive"}))  # that one takes small spaces only


def told(population: Population) -> Candidates:
    """Return candidates that are the better the earlier they come."""
    return Candidates(population, np.linspace(1.0, 0.0, len(population)), np.ones(len(population)))


def all_allowed(searched: SearchSpace, population: Population) -> bool:
    return all(searched.architecture(architecture) == architecture for architecture in searched.decode(population))


@every
def test_proposals_are_as_many_as_asked_for_and_architectures_of_the_restricted_space(name: str) -> None:
    narrow = TINY.restrict({"resolution": [24, 28], "kernel_size": [3, 7], "stage2.depth": [3]})
    strategy = create(name, narrow, SearchSettings(population_size=20), np.random.default_rng(0))
    for generation in range(4):
        for count in (30, 7):
            proposals = strategy.ask(count)
            assert proposals.shape == (count, len(narrow.choices)) and proposals.dtype == np.int8
            assert all_allowed(narrow, proposals)
        strategy.tell(told(narrow.sample_different(1 if generation == 0 else 20, np.random.default_rng(generation))))


@every
def test_the_same_seed_makes_the_same_proposals(name: str) -> None:
    first, second = (create(name, TINY, SearchSettings(), np.random.default_rng(5)) for _ in range(2))
    for strategy in (first, second):
        strategy.tell(told(TINY.encode([TINY.smallest()])))
        strategy.tell(told(TINY.sample_different(50, np.random.default_rng(1))))
    assert np.array_equal(first.ask(100), second.ask(100))


@every
def test_a_generation_in_which_nothing_was_found_is_survived(name: str) -> None:
    strategy = create(name, TINY, SearchSettings(), np.random.default_rng(0))
    strategy.tell(told(TINY.encode([TINY.smallest()])))
    for _ in range(3):
        strategy.tell(told(TINY.sample_population(0, np.random.default_rng(0))))
        assert len(strategy.ask(10)) == 10


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownStrategyError, match="unknown search strategy 'genius'; known strategies: coarse-to-fine, evolution, exhaustive, random, rl-controller"
    ):
        create("genius", TINY, SearchSettings(), np.random.default_rng(0))


def children(settings: SearchSettings, parent: Population, count: int = 4000) -> Population:
    """Return the first proposals after a generation that left this one network as the parent of all."""
    strategy = create("evolution", TINY, settings, np.random.default_rng(0))
    strategy.tell(told(parent))
    strategy.tell(told(np.repeat(parent, settings.population_size, axis=0)))
    return strategy.ask(count)


def test_a_mutation_redraws_a_block_s_slots_together_and_the_resolution_more_often() -> None:
    parent = TINY.encode([TINY.largest()])
    changed = children(SearchSettings(mutation_share=1.0), parent) != parent
    names = TINY.position
    kernel, ratio = changed[:, names["stage1.block0.kernel_size"]], changed[:, names["stage1.block0.expand_ratio"]]
    # each of the two slots keeps its value by chance in a third of the redraws: 0.1 * 2/3 change, and 4/9 of 0.1 change together
    assert kernel.mean() == pytest.approx(0.1 * 2 / 3, abs=0.015)
    assert (kernel & ratio).mean() == pytest.approx(0.1 * 4 / 9, abs=0.015)
    assert changed[:, names["stage1.depth"]].mean() == pytest.approx(0.1 * 2 / 3, abs=0.015)
    assert changed[:, names["resolution"]].mean() == pytest.approx(0.5 * 3 / 4, abs=0.03)


def test_crossing_equal_parents_changes_nothing() -> None:
    parent = TINY.encode([TINY.largest()])
    assert (children(SearchSettings(mutation_share=0.0), parent) == parent).all()


def test_after_rejections_the_proposals_stay_nearer_to_their_parents() -> None:
    parent = TINY.encode([TINY.largest()])
    strategy = create("evolution", TINY, SearchSettings(mutation_share=1.0), np.random.default_rng(0))
    strategy.tell(told(parent))
    strategy.tell(told(np.repeat(parent, 100, axis=0)))
    first, second = ((strategy.ask(2000) != parent).any(axis=1).mean() for _ in range(2))
    assert second < first


def test_parents_are_the_best_told_so_far() -> None:
    settings = SearchSettings(population_size=8, parent_share=0.25, mutation_share=0.0)
    strategy = create("evolution", TINY, settings, np.random.default_rng(0))
    rows = TINY.sample_different(30, np.random.default_rng(2))
    strategy.tell(told(rows[:1]))
    strategy.tell(Candidates(rows[1:9], np.array([0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.5, 0.6]), np.ones(8)))
    strategy.tell(Candidates(rows[9:], np.zeros(21), np.ones(21)))
    best = np.stack([rows[2], rows[5]])
    assert all(any((child == parent) | (child == other)) for child in strategy.ask(50) for parent, other in [best])
    assert np.isin(strategy.ask(200), best).all()


def test_a_line_that_stands_still_gives_way_to_random_networks() -> None:
    settings = SearchSettings(population_size=10, patience=3, mutation_share=0.0)
    strategy = create("evolution", TINY, settings, np.random.default_rng(0))
    strategy.tell(told(TINY.encode([TINY.smallest()])))
    parent = TINY.encode([TINY.largest()])
    for _ in range(3):
        strategy.tell(told(np.repeat(parent, 10, axis=0)))
        assert (strategy.ask(40) == parent).all()
    strategy.tell(told(np.repeat(parent, 10, axis=0)))
    assert len(np.unique(strategy.ask(40), axis=0)) > 30


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("population_size", 0), ("generations", 0), ("attempts", -1), ("parent_share", 1.5), ("mutation_share", float("nan")),
        ("population_size", 1.5), ("generations", True), ("patience", 1.5), ("finalists", "5"), ("attempts", None), ("parent_share", "0.5"),
        ("resolution_probability", True), ("controller_learning_rate", "fast"), ("controller_learning_rate", 1.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} is {value!r}; expected"):
        SearchSettings(**{setting: value})


def test_settings_survive_a_round_trip_and_refuse_unknown_names() -> None:
    settings = SearchSettings(population_size=7, patience=3)
    assert SearchSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ValueError, match="no setting 'popsize'; its settings are population_size"):
        SearchSettings.from_dict({"popsize": 3})


def test_the_defaults_are_the_reference_s() -> None:
    settings = SearchSettings()
    assert (settings.population_size, settings.generations, settings.parent_share) == (100, 500, 0.25)
    assert (settings.mutation_share, settings.mutation_probability, settings.resolution_probability) == (0.5, 0.1, 0.5)


GAPS = {"exhaustive": 0.0, "evolution": 0.0, "coarse-to-fine": 0.01, "rl-controller": 0.02, "random": 0.03}  # of the spread of values


@pytest.mark.parametrize("objective", ["budget", "soft-product", "absolute-deviation"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_ends_near_the_exhaustive_optimum_of_a_small_space_and_there_again(name: str, objective: str) -> None:
    small = space("bignas-tiny").restrict({"resolution": [20, 28]})
    weights = np.random.default_rng(3).uniform(0.2, 1.0, len(small.choices))

    def accuracy(population: Population) -> np.ndarray:
        return 0.5 + 0.04 * np.tanh(np.maximum(population, 0) * weights).sum(axis=1) + 0.002 * np.sin(population @ np.arange(len(weights)))

    def latency(population: Population) -> np.ndarray:
        return 1.0 + (np.maximum(population, 0) * weights[::-1]).sum(axis=1)

    everything = small.encode(small.enumerate())
    target = float(np.median(latency(everything)))
    aim = objective_of(objective, target)
    values = aim.values(accuracy(everything), latency(everything))[aim.feasible(latency(everything))]
    generations = 100 if name == "exhaustive" else 25
    settings = SearchSettings(population_size=100, generations=generations, controller_learning_rate=0.005)
    first, again = (search(small, accuracy, latency, target, name, settings, seed=1, objective=objective) for _ in range(2))
    assert first == again
    best = first.best
    found = float(aim.values(np.array([best.accuracy]), np.array([best.latency_ms]))[0])
    assert len(everything) == small.size() <= 10_000
    assert values.max() - GAPS[name] * (values.max() - values.min()) <= found <= values.max() + 1e-12


def test_the_controller_draws_better_networks_the_longer_it_learns() -> None:
    controller = create("rl-controller", TINY, SearchSettings(controller_learning_rate=0.003), np.random.default_rng(0))
    controller.tell(told(TINY.encode([TINY.smallest()])))

    def worth(population: Population) -> np.ndarray:
        return np.maximum(population, 0).mean(axis=1)

    before = worth(controller.ask(400)).mean()
    for _ in range(30):
        drawn = unique_rows(controller.ask(40))
        controller.tell(Candidates(drawn, worth(drawn), np.ones(len(drawn))))
    assert worth(controller.ask(400)).mean() > before + 0.3


@pytest.mark.parametrize("searched", [TINY, TINY.restrict({"depth": [3, 4], "kernel_size": [5, 7]}), space("mnasnet-tiny"), space("bignas-tiny")])
def test_the_controller_learns_from_the_probabilities_that_it_drew_with(searched: SearchSpace) -> None:
    torch = pytest.importorskip("torch")
    controller: Any = create("rl-controller", searched, SearchSettings(), np.random.default_rng(0))
    drawn_with: list[Any] = []
    step = controller._step

    def noted(*given: Any) -> Any:
        logits, state = step(*given)
        drawn_with.append(logits.log_softmax(dim=1))
        return logits, state

    with torch.no_grad():
        for parameter in controller._parameters.values():
            parameter.mul_(20)  # so that what was taken before weighs
    controller._step = noted
    population = controller.ask(200)
    controller._step = step
    assert (population == OFF).any() == any(choice.depends_on for choice in searched.choices)
    options, active = controller._options(population)
    at_ask = sum(logs.gather(1, options[:, [number]])[:, 0] * active[:, number] for number, logs in enumerate(drawn_with))
    with torch.no_grad():
        replayed, _ = controller._log_probabilities(options, active)
    torch.testing.assert_close(replayed, at_ask)


def test_the_coarse_set_is_a_small_product_of_network_wide_settings() -> None:
    codes = coarse_set(space("bignas"))
    columns = space("bignas").position
    assert 80 <= len(codes) <= 160
    depths = codes[:, [column for name, column in columns.items() if name.endswith(".depth")]]
    last = np.array([len(choice.values) - 1 for choice in space("bignas").choices if choice.kind == "depth"])
    assert {tuple(row) for row in depths[[0]]} and np.ptp(depths / last, axis=1).max() <= 0.5  # the same share of the way in every stage
    assert {tuple(space("bignas").encode([a])[0]) for a in (space("bignas").smallest(), space("bignas").largest())} <= {tuple(row) for row in codes}


def test_an_exhaustive_search_of_too_many_networks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 1,601,914,103,244 networks, and an exhaustive search takes 1,000,000 at most; restrict it"):
        create("exhaustive", TINY, SearchSettings(), np.random.default_rng(0))
