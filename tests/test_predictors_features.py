from __future__ import annotations

import numpy as np
import pytest

from predictors.features import LogMacs, fill_unseen, seen_values
from supernets import counts
from supernets.space import Choice, SearchSpace
from supernets.spaces import space as space_of_name

SPACE = SearchSpace("mixed", (Choice("side", (10, 20, 40, 50, 60)), Choice("word", ("a", "b", "c"))), lambda architecture: [], {})


def test_seen_values_are_those_that_occur():
    seen = seen_values(SPACE, np.array([[0, 2], [2, 2], [2, 0]], dtype=np.int8))
    assert seen.tolist() == [True, False, True, False, False, True, False, True]


def test_unseen_numbers_lie_between_their_neighbours_and_unseen_words_at_the_mean():
    seen = np.array([True, False, True, False, False, True, False, True])
    weights = np.array([[3.0], [99.0], [9.0], [99.0], [99.0], [1.0], [99.0], [2.0]])
    filled = fill_unseen(weights, SPACE, seen)[:, 0]
    # 20 is a third of the way from 10 to 40; 50 and 60 lie beyond 40
    assert filled.tolist() == pytest.approx([3, 5, 9, 9, 9, 1, 1.5, 2])
    assert weights[1, 0] == 99


def test_a_choice_that_was_never_on_weighs_nothing():
    filled = fill_unseen(np.full((8, 2), 7.0), SPACE, np.array([True] * 5 + [False] * 3))
    assert filled[5:].tolist() == [[0, 0]] * 3


def test_log_macs_are_those_of_the_blocks():
    space = space_of_name("ofa-mobilenetv3-tiny")
    expected = np.log([counts.macs(space.blocks(architecture)) for architecture in (space.smallest(), space.largest())])
    np.testing.assert_allclose(LogMacs(space)(space.encode([space.smallest(), space.largest()])), expected)
