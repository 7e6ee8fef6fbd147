from __future__ import annotations

import numpy as np
import pytest

from profiler.measuring.informative import informative_networks, network_features, spread_rows
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")


def test_informative_networks_are_different_and_follow_from_the_seed():
    first, again, other = (informative_networks(TINY, 10, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 10


def test_informative_networks_lie_farther_apart_than_random_ones():
    chosen = network_features(TINY, TINY.encode(informative_networks(TINY, 10, np.random.default_rng(0))))
    random = network_features(TINY, TINY.sample_different(10, np.random.default_rng(1)))
    assert (chosen.std(axis=0) > random.std(axis=0)).all()
    resolutions = {architecture["resolution"] for architecture in informative_networks(TINY, 10, np.random.default_rng(0))}
    assert len(resolutions) >= 3


def test_a_small_space_gives_all_it_has():
    one = TINY.restrict({choice.name: choice.allowed[:1] for choice in TINY.choices})
    assert len(informative_networks(one, 10, np.random.default_rng(0))) == 1


def test_no_networks_are_refused():
    with pytest.raises(ValueError, match="0 networks were asked for; expected at least 1"):
        informative_networks(TINY, 0, np.random.default_rng(0))


def test_rows_are_taken_from_the_middle_and_then_the_ends():
    line = np.arange(11.0)[:, None]
    assert spread_rows(line, 3).tolist() in ([5, 0, 10], [5, 10, 0])
    assert sorted(spread_rows(line, 20).tolist()) == list(range(11))
    constant = np.concatenate([line, np.ones((11, 1))], axis=1)
    assert spread_rows(1000 * constant, 3).tolist() == spread_rows(line, 3).tolist()
