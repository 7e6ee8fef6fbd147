from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objectives import Candidates
from search.pareto import ParetoArchive, non_dominated

matrices = st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(st.integers(0, 6), min_size=width, max_size=width), min_size=1, max_size=40))


def dominated_by_definition(costs: np.ndarray, row: int) -> bool:
    return any((other <= costs[row]).all() and (other < costs[row]).any() for other in costs)


@given(matrices)
def test_the_set_is_what_the_definition_says_with_equal_rows_kept_once(rows: list[list[int]]) -> None:
    costs = np.array(rows)
    expected = {tuple(costs[row]) for row in range(len(costs)) if not dominated_by_definition(costs, row)}
    kept = non_dominated(costs)
    assert len(kept) == len(expected)
    assert {tuple(costs[row]) for row in kept} == expected
    assert np.all(np.diff(costs[kept, 0]) >= 0)


def test_the_first_of_equal_rows_stays() -> None:
    assert non_dominated(np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])).tolist() == [1, 0]


def test_no_rows_have_an_empty_set() -> None:
    assert non_dominated(np.zeros((0, 2))).tolist() == []


def test_costs_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 that are not numbers"):
        non_dominated(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="expected a matrix"):
        non_dominated(np.array([1.0, 2.0]))


def candidates(rng: np.random.Generator, count: int) -> Candidates:
    return Candidates(rng.integers(0, 3, size=(count, 4)).astype(np.int8), rng.integers(0, 30, count) / 30, rng.integers(1, 30, count) / 10)


@given(st.integers(0, 1000))
def test_an_archive_fed_in_parts_holds_the_front_of_the_whole(seed: int) -> None:
    whole = candidates(np.random.default_rng(seed), 60)
    archive = ParetoArchive()
    for start in range(0, 60, 7):
        archive.add(whole.take(slice(start, start + 7)))
    front = archive.front
    costs = np.stack([whole.latencies_ms, -whole.accuracies], axis=1)
    expected = costs[non_dominated(costs)]
    assert np.array_equal(np.stack([front.latencies_ms, -front.accuracies], axis=1), expected)
    assert np.all(np.diff(front.latencies_ms) > 0) and np.all(np.diff(front.accuracies) > 0)


def test_an_empty_archive_has_no_front() -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = ParetoArchive().front


def test_candidates_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 architectures, 1 accuracies, 2 latencies and 1 values"):
        Candidates(np.zeros((2, 3), dtype=np.int8), np.zeros(1), np.zeros(2))
