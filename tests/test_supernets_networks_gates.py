# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets.networks.gates import BranchBudget, BranchGates, best_affordable, knapsack, straight_through
from supernets.spaces.repnas import BRANCHES

pytestmark = pytest.mark.torch

NAMES = [f"stage1.block{b}.{branch}" for b in range(3) for branch in (BRANCHES if b else BRANCHES[:-1])]
COSTS = {"branch_1x1_kxk": 4, "branch_kxk": 3, "branch_1x1_avg": 2}


def by_trying_all(values, costs, budget):
    sets = (np.array(chosen, dtype=bool) for chosen in itertools.product((False, True), repeat=len(values)))
    return max(float(values[mask].sum()) for mask in sets if costs[mask].sum() <= budget)


def test_the_knapsack_is_the_best_of_all_sets():
    rng = np.random.default_rng(0)
    for _ in range(40):
        count = int(rng.integers(1, 11))
        values, costs = rng.random(count) + 1e-3, rng.integers(1, 8, count)
        for budget in (0, 1, int(rng.integers(1, 30)), int(costs.sum()), int(costs.sum()) + 5):
            mask = knapsack(values, costs, budget)
            assert costs[mask].sum() <= budget
            assert values[mask].sum() == pytest.approx(by_trying_all(values, costs, budget), abs=1e-12)


def test_with_equal_costs_the_largest_scores_are_the_best_set():
    rng = np.random.default_rng(1)
    for cost in (1, 3):
        scores, costs = rng.normal(0, 3, 9), np.full(9, cost)
        for budget in range(12):
            mask = best_affordable(scores, costs, budget)
            assert mask.sum() == min(9, budget // cost)
            assert set(np.flatnonzero(mask)) == set(np.argsort(-scores)[: mask.sum()])
            soft = 1 / (1 + np.exp(-scores))
            assert soft[mask].sum() == pytest.approx(by_trying_all(soft, costs, budget))


def test_equal_costs_choose_alike_by_either_way():
    scores, costs = np.random.default_rng(2).normal(0, 2, 12), np.ones(12, dtype=np.int64)
    soft = 1 / (1 + np.exp(-scores))
    for budget in range(13):
        assert (best_affordable(scores, costs, budget) == knapsack(soft, costs, budget)).all()


def test_scores_of_any_size_are_chosen_among():
    scores = np.array([1e4, 1e5, -1e6, 50.0, 49.0])
    assert best_affordable(scores, np.ones(5, dtype=np.int64), 3).tolist() == [True, True, False, True, False]
    assert best_affordable(scores, np.array([2, 1, 1, 1, 1]), 3).sum() >= 2


def test_gates_are_exactly_as_many_as_the_budget_and_exactly_one():
    gates = BranchGates(NAMES, BranchBudget(limit=9))
    for step in range(20):
        drawn = gates.gates(gates.scores(np.random.default_rng(step)))
        assert len(drawn) == 9
        assert all(gate.item() == 1.0 for gate in drawn.values())
    whole = straight_through(torch.randn(50) * 20, torch.arange(50) % 2 == 0)
    assert set(whole.tolist()) == {0.0, 1.0}


def test_the_gradient_is_the_sigmoids_and_reaches_only_what_is_selected():
    gates = BranchGates(NAMES, BranchBudget(limit=6))
    scores = gates.scores(np.random.default_rng(4))
    drawn = gates.gates(scores)
    factors = dict(zip(drawn, np.random.default_rng(5).normal(size=6), strict=True))
    sum(factor * drawn[name] for name, factor in factors.items()).backward()
    soft = torch.sigmoid(scores.detach())
    for i, name in enumerate(gates.candidates):
        expected = factors[name] * float(soft[i] * (1 - soft[i])) if name in drawn else 0.0
        assert float(gates.alpha.grad[i]) == pytest.approx(expected, rel=1e-5, abs=0.0 if name not in drawn else 1e-9)


def test_the_same_generator_draws_the_same_gates_and_noise_is_uniform_over_candidates():
    gates = BranchGates(NAMES, BranchBudget(fraction=0.5))
    assert list(gates.gates(gates.scores(np.random.default_rng(7)))) == list(gates.gates(gates.scores(np.random.default_rng(7))))
    rng = np.random.default_rng(0)
    counts = np.mean([gates.chosen(gates.scores(rng, learned=False)) for _ in range(2000)], axis=0)
    assert abs(counts - 10 / 20).max() < 0.06


def test_what_is_learned_decides_without_noise():
    gates = BranchGates(NAMES, BranchBudget(limit=2))
    with torch.no_grad():
        gates.alpha[[3, 11]] = torch.tensor([1.0, 2.0])
    assert set(gates.gates(gates.scores())) == {NAMES[3], NAMES[11]}


def test_a_budget_of_each_block_keeps_as_many_of_each():
    gates = BranchGates(NAMES, BranchBudget(limit=2, scope="block"))
    for step in range(10):
        kept = gates.gates(gates.scores(np.random.default_rng(step)))
        assert [sum(name.startswith(f"stage1.block{b}.") for name in kept) for b in range(3)] == [2, 2, 2]


def test_a_forced_skip_is_no_candidate_and_always_kept():
    gates = BranchGates(NAMES, BranchBudget(fraction=0.34, skip="forced"))
    assert len(gates.candidates) == 18
    drawn = gates.gates(gates.scores(np.random.default_rng(0)))
    assert len(drawn) == 6
    kept = gates.kept(drawn)
    assert sum(kept.values()) == 8
    assert all(kept[name] == 1 for name in NAMES if name.endswith("skip"))
    assert set(kept) == set(NAMES)


def test_unequal_costs_are_spent_within_the_budget_on_the_best_set():
    gates = BranchGates(NAMES, BranchBudget(limit=12, costs=COSTS))
    for step in range(10):
        scores = gates.scores(np.random.default_rng(step))
        chosen = gates.chosen(scores)
        costs = np.array([gates.budget.cost(name) for name in gates.candidates])
        soft = torch.sigmoid(scores).detach().double().numpy()
        assert costs[chosen].sum() <= 12
        rest = np.sort(np.flatnonzero(~chosen))
        assert all(costs[chosen].sum() + costs[i] > 12 for i in rest)  # nothing more is affordable
        few = slice(0, 12)
        mask = best_affordable(scores[few].detach().double().numpy(), costs[few], 7)
        assert soft[few][mask].sum() == pytest.approx(by_trying_all(soft[few], costs[few], 7))


def test_a_fraction_of_released_size_is_rounded_down():
    names = [f"b{b}.{branch}" for b in range(22) for branch in (BRANCHES if b < 17 else BRANCHES[:-1])]
    assert len(names) == 149
    released = BranchGates(names, BranchBudget(fraction=0.34, skip="forced"))
    assert len(released.candidates) == 132
    assert released.chosen(released.scores()).sum() == 44
    assert BranchBudget(fraction=1.0).of([1] * 149) == 149
    assert BranchBudget(fraction=0.3).of([1] * 10) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of them"),
        ({"limit": 3, "fraction": 0.5}, "expected one of them"),
        ({"limit": 0}, "at least 1"),
        ({"fraction": 1.5}, "at most 1"),
        ({"limit": 3, "scope": "stage"}, "scope of a branch budget is 'stage'; expected one of network, block"),
        ({"limit": 3, "skip": "never"}, "expected one of searched, forced"),
        ({"limit": 3, "costs": {"branch_kxk": 1.5}}, "cost of branch 'branch_kxk' is 1.5; expected whole numbers"),
        ({"limit": 3, "costs": {"kxk": 1}}, "cost of branch 'kxk'"),
    ],
)
def test_a_budget_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BranchBudget(**options)
