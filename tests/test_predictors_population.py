from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from predictors.population import CHUNK_ROWS, PopulationCheck, checked_figures
from supernets.space import OFF, Choice, SearchSpace
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
SMALL = SearchSpace(
    "small",
    (Choice("depth", (1, 2, 3), allowed=(1, 3)), Choice("kernel", (3, 5, 7, 9), "depth", (2, 3), allowed=(5, 9)), Choice("word", ("a", "b"))),
    lambda architecture: [],
    {},
)


def is_in_space(row: list[int]) -> bool:
    depth, kernel, word = row
    return depth in (0, 2) and (kernel in (1, 3) if depth == 2 else kernel == OFF) and word in (0, 1)


@given(arrays(np.int8, st.tuples(st.integers(0, 4), st.just(3)), elements=st.integers(-2, 4)))
def test_exactly_the_populations_of_the_space_pass(population):
    check = PopulationCheck(SMALL)
    if all(is_in_space(row) for row in population.tolist()):
        assert check(population) is population
    else:
        with pytest.raises(ValueError, match="is not in space 'small'"):
            check(population)


def test_the_first_wrong_slot_is_named_with_its_row_in_a_long_population():
    population = TINY.sample_population(CHUNK_ROWS + 10, np.random.default_rng(0))
    population[CHUNK_ROWS + 5, TINY.position["stage2.block0.kernel_size"]] = 5
    with pytest.raises(
        ValueError, match=rf"architecture {CHUNK_ROWS + 5} .* slot 'stage2.block0.kernel_size' has the code 5; expected one of \[3, 5, 7\]"
    ):
        PopulationCheck(TINY)(population)


def test_whole_floats_are_codes_and_others_are_not():
    population = TINY.sample_population(3, np.random.default_rng(0))
    assert np.array_equal(PopulationCheck(TINY)(population.astype(np.float32)), population)
    with pytest.raises(ValueError, match="row 0, column 1 of the population is 0.5; expected an integer code"):
        PopulationCheck(TINY)(np.where(np.arange(population.shape[1]) == 1, 0.5, population))
    with pytest.raises(ValueError, match="row 0, column 1 of the population is 300"):
        PopulationCheck(TINY)(np.where(np.arange(population.shape[1]) == 1, 300, population.astype(int)))


def test_figures_out_of_range_are_named_with_their_place():
    assert checked_figures([1, 2], 2, "figures", 0, 5).dtype == np.float64
    with pytest.raises(ValueError, match="number 1 of the figures is 7.0; expected 0 to 5"):
        checked_figures([1, 7], 2, "figures", 0, 5)
    with pytest.raises(ValueError, match="figures are <U1; expected numbers"):
        checked_figures(["1", "2"], 2, "figures", 0, 5)
