from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.genes import genes, n_options, options, shared
from search.lowest import lowest_latency
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import AdditiveCost, places
from supernets.space import Population, SearchSpace
from supernets.spaces import space


def block_costs(blocks: list[BlockSpec], seed: int, lowest: float = 0.1) -> dict[BlockSpec, float]:
    rng = np.random.default_rng(seed)
    return {block: float(rng.uniform(lowest, 1.0)) for block in dict.fromkeys(blocks)}


def random_cost(searched: SearchSpace, seed: int, lowest: float = 0.1) -> AdditiveCost:
    costs = block_costs([block for place in places(searched) for block in place.blocks if block is not None], seed, lowest)
    return AdditiveCost(searched, lambda block: costs[block])


def small_space() -> SearchSpace:
    """Return 4,050 networks: two resolutions, one stage free in everything but its first block."""
    fixed: dict[str, tuple[int | float | str, ...]] = {"resolution": (20, 32), "stage2.depth": (2,), "stage3.depth": (2,)}
    for stage, block in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1)):
        fixed[f"stage{stage}.block{block}.kernel_size"] = (5,)
        fixed[f"stage{stage}.block{block}.expand_ratio"] = (4,)
    fixed["stage1.block3.expand_ratio"] = (3, 6)
    fixed["stage1.block1.kernel_size"] = (3, 7)
    return space("ofa-mobilenetv3-tiny").restrict(fixed)


SMALL = small_space()
EVERY_SMALL = SMALL.encode(SMALL.enumerate())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_lowest_additive_latency_is_that_of_enumeration(seed: int) -> None:
    cost = random_cost(SMALL, seed)
    found = lowest_latency(SMALL, cost, np.random.default_rng(0))
    assert cost(found)[0] == cost(EVERY_SMALL).min()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_exact_too_where_a_deeper_stage_is_cheaper(seed: int) -> None:
    cost = random_cost(SMALL, seed, lowest=-1.0)
    found = lowest_latency(SMALL, cost, np.random.default_rng(0))
    assert cost(found)[0] == pytest.approx(cost(EVERY_SMALL).min(), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_the_whole_space_it_is_the_sum_of_each_place_s_minimum_at_the_best_resolution(seed: int) -> None:
    whole = space("ofa-mobilenetv3-w1.0")
    sums = {resolution: 0.0 for resolution in whole.choices[0].values}
    costs = block_costs([block for place in places(whole) for block in place.blocks if block is not None], seed)
    for place in places(whole):
        if place.name.endswith((".block2", ".block3")):
            continue  # costs are positive, so the shallowest networks are the fastest
        by_resolution = np.array([np.nan if block is None else costs[block] for block in place.blocks]).reshape(len(sums), -1)
        for resolution, lowest in zip(sums, by_resolution.min(axis=1), strict=True):
            sums[resolution] += lowest
    cost = AdditiveCost(whole, lambda block: costs[block])
    assert cost(lowest_latency(whole, cost, np.random.default_rng(0)))[0] == pytest.approx(min(sums.values()), rel=1e-12)


def test_a_rising_function_of_a_sum_has_the_same_lowest_network() -> None:
    cost = random_cost(SMALL, 3)
    plain = lowest_latency(SMALL, cost, np.random.default_rng(0))
    curved = lowest_latency(SMALL, lambda population: 0.4 + cost(population) ** 1.3, np.random.default_rng(0))
    assert np.array_equal(plain, curved)


def test_a_latency_with_interactions_is_no_higher_than_that_of_the_smallest_networks() -> None:
    whole = space("ofa-mobilenetv3-tiny")
    macs = AdditiveCost(whole, lambda block: float(block_macs(block)))

    def latency(population: Population) -> np.ndarray:
        return macs(population) / 1e6 + 0.3 * np.sin(population.astype(np.float64) @ np.arange(population.shape[1]))

    found = latency(lowest_latency(whole, latency, np.random.default_rng(0)))[0]
    smallest = [whole.restrict({"resolution": [side]}).smallest() for side in whole.choices[0].values]
    assert found <= latency(whole.encode(smallest)).min()
    assert found <= latency(whole.sample_population(2000, np.random.default_rng(1))).min()


def test_it_stays_within_the_restrictions_of_the_space() -> None:
    narrow = SMALL.restrict({"resolution": [32], "stage1.depth": [3, 4]})
    found = narrow.decode(lowest_latency(narrow, random_cost(SMALL, 5), np.random.default_rng(0)))[0]
    assert found["resolution"] == 32 and found["stage1.depth"] in (3, 4)
    assert narrow.architecture(found) == found


def test_the_slots_of_a_block_are_one_gene_and_everything_else_its_own() -> None:
    whole = space("ofa-mobilenetv3-tiny")
    names = [[whole.choices[column].name for column in columns] for columns in genes(whole)]
    assert names[0] == ["stage1.block0.kernel_size", "stage1.block0.expand_ratio"]
    assert sorted(name for columns in names for name in columns) == sorted(whole.position)
    assert names[-1] == ["resolution"] and shared(whole) == [0]
    assert all([f"stage{stage}.depth"] in names for stage in (1, 2, 3))


def test_options_are_all_allowed_combinations() -> None:
    columns = tuple(SMALL.position[f"stage1.block1.{kind}"] for kind in ("kernel_size", "expand_ratio"))
    assert options(SMALL, columns).tolist() == [[0, 0], [0, 1], [0, 2], [2, 0], [2, 1], [2, 2]]
    assert n_options(SMALL, columns) == 6
    assert options(SMALL, ()).shape == (1, 0)
