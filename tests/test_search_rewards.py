"""Objectives other than a budget: MnasNet's figures to four digits, and how each treats networks beyond the target."""

from __future__ import annotations

import numpy as np
import pytest

from search.driver import search
from search.objectives import Candidates, ConstrainedMaximum
from search.rewards import (
    HARD,
    OBJECTIVES,
    AbsoluteDeviation,
    UnknownObjectiveError,
    WeightedProduct,
    WeightedSum,
    exponent_of_gain,
    objective_of,
)  # fmt: skip
from search.settings import SearchSettings
from supernets.spaces import space

SOFT_PRODUCT, HARD_PRODUCT = WeightedProduct(75.0), WeightedProduct(75.0, *HARD)


@pytest.mark.parametrize(
    "top1, latency_ms, soft, hard",
    [(0.752, 78, 0.7499, 0.7231), (0.756, 84, 0.7500, 0.6750), (0.767, 103, 0.7502, 0.5585), (0.720, 75, 0.7200, 0.7200)],
    ids=["MnasNet-A1", "MnasNet-A2", "MnasNet-A3", "MobileNetV2"],
)
def test_the_published_networks_have_the_published_rewards(top1, latency_ms, soft, hard):
    figures = np.array([top1]), np.array([float(latency_ms)])
    assert round(float(SOFT_PRODUCT.values(*figures)[0]), 4) == soft
    assert round(float(HARD_PRODUCT.values(*figures)[0]), 4) == hard


def test_the_soft_reward_falls_with_latency_and_the_hard_one_only_beyond_the_target():
    latencies_ms = np.linspace(20, 150, 60)
    soft, hard = (objective.values(np.full(60, 0.7), latencies_ms) for objective in (SOFT_PRODUCT, HARD_PRODUCT))
    assert (np.diff(soft) < 0).all()
    assert hard[latencies_ms <= 75] == pytest.approx(0.7) and (np.diff(hard[latencies_ms > 75]) < 0).all()


def test_the_exponent_follows_from_the_gain_that_twice_the_latency_is_worth():
    assert exponent_of_gain(0.05) == pytest.approx(-0.0704, abs=5e-5)
    product = WeightedProduct(75.0, exponent_of_gain(0.05), exponent_of_gain(0.05))
    once, twice = product.values(np.array([0.70, 0.70 * 1.05]), np.array([50.0, 100.0]))
    assert once == pytest.approx(twice)
    with pytest.raises(ValueError, match="relative_gain is 0; expected a share above 0"):
        exponent_of_gain(0)


def test_a_sum_counts_milliseconds_by_side_and_a_deviation_falls_on_both():
    latencies_ms, accuracies = np.array([50.0, 75.0, 100.0]), np.full(3, 0.7)
    assert WeightedSum(75.0, -0.001, -0.01).values(accuracies, latencies_ms) == pytest.approx([0.675, 0.7, 0.45])
    deviation = AbsoluteDeviation(75.0, -0.3).values(accuracies, latencies_ms)
    assert deviation == pytest.approx([0.6, 0.7, 0.6])


@pytest.mark.parametrize("target_ms", [0.05, 75.0])
def test_the_sum_of_that_name_holds_latency_as_dear_on_a_fast_device_as_on_a_slow_one(target_ms):
    values = objective_of("weighted-sum", target_ms).values(np.array([0.7, 0.7, 0.9]), np.array([0.5, 1.0, 1.1]) * target_ms)
    assert values == pytest.approx([0.7, 0.7, 0.8])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_built_by_name_and_refuses_a_target_that_is_none(name):
    objective = objective_of(name, 10.0)
    ranked = objective.best_first(Candidates(np.zeros((3, 2), dtype=np.int8), np.array([0.5, 0.7, 0.6]), np.array([9.0, 10.0, 10.0])))
    assert ranked[0] == 1
    with pytest.raises(ValueError, match="is 0; expected a positive number of milliseconds"):
        objective_of(name, 0)


def test_only_a_budget_has_a_safety_margin_and_unknown_names_are_told():
    assert objective_of("budget", 10.0, 0.1) == ConstrainedMaximum(10.0, 0.1)
    with pytest.raises(ValueError, match="objective 'soft-product' has a target and no budget"):
        objective_of("soft-product", 10.0, 0.1)
    with pytest.raises(UnknownObjectiveError, match="unknown objective 'best'; known objectives: budget, soft-product"):
        objective_of("best", 10.0)


def test_a_search_for_a_reward_may_end_beyond_the_target_where_a_budget_may_not():
    tiny = space("ofa-mobilenetv3-tiny")
    sizes = np.array([len(choice.values) for choice in tiny.choices])

    def size(population):
        return (np.maximum(population, 0) / sizes).sum(axis=1)

    def latency(population):
        return 1.0 + size(population)

    settings = SearchSettings(population_size=20, generations=10)
    kept = search(tiny, size, latency, 5.0, settings=settings)
    rewarded = search(tiny, size, latency, 5.0, settings=settings, objective="soft-product")
    assert kept.best.latency_ms <= 5.0 < rewarded.best.latency_ms
    assert rewarded.objective == "soft-product" and len(rewarded.front) > 3
    values = WeightedProduct(5.0).values(*(np.array([getattr(f, name) for f in rewarded.finalists]) for name in ("accuracy", "latency_ms")))
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "budget"])
@pytest.mark.parametrize("target_ms", [1e-320, 1e-300, 9e-7])
def test_a_target_below_a_nanosecond_is_refused_before_ratios_overflow(name, target_ms):
    with pytest.raises(ValueError, match=f"target_ms is {target_ms}; expected 0.000001 milliseconds"):
        objective_of(name, target_ms)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("target_ms", [1e-6, 1e308])
def test_every_objective_values_any_latency_beside_the_farthest_targets(name, target_ms):
    values = objective_of(name, target_ms).values(np.array([0.1, 0.9]), np.array([1e-6, 1e9]))
    assert np.isfinite(values).all()
