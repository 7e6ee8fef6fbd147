"""Second modes and outliers: found where they are, and not where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from profiler.measuring.modes import modes_of
from profiler.measuring.outliers import outliers

RNG = np.random.default_rng(3)


def level(factor: float, count: int) -> np.ndarray:
    return 1e5 * factor * (1 + np.abs(RNG.normal(0, 0.008, count)))


def test_one_level_has_one_mode():
    found = modes_of(level(1.0, 300))
    assert found.slow_share == 0.0 and found.ratio == 1.0
    assert found.fast_ns == pytest.approx(1e5, rel=0.01)


@pytest.mark.parametrize(("factor", "share"), [(1.08, 0.5), (1.28, 0.3), (1.28, 0.8), (1.6, 0.1)])
def test_two_levels_are_found_with_the_share_of_the_slow_one(factor, share):
    slow = round(400 * share)
    found = modes_of(np.concatenate([level(1.0, 400 - slow), level(factor, slow)]))
    assert found.slow_share == pytest.approx(share, abs=0.02)
    assert found.ratio == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("factor", [1.01, 1.03])
def test_levels_that_lie_near_each_other_are_one(factor):
    assert modes_of(np.concatenate([level(1.0, 200), level(factor, 200)])).slow_share == 0.0


def test_one_wide_level_is_not_two():
    assert modes_of(1e5 * (1 + 0.3 * RNG.random(400))).slow_share == 0.0


def test_the_device_s_own_slow_speed_is_no_mode_of_a_block():
    both_speeds = np.concatenate([level(1.0, 200), level(1.28, 200)])
    assert modes_of(both_speeds, device_ratio=1.28).slow_share == 0.0
    bimodal = np.concatenate([both_speeds, level(1.12, 200), level(1.12 * 1.28, 200)])
    assert modes_of(bimodal, device_ratio=1.28).slow_share == pytest.approx(0.5, abs=0.05)


def test_too_few_samples_have_one_mode():
    assert modes_of(np.array([1.0, 2.0] * 5)).slow_share == 0.0


def test_outliers_are_flagged_by_the_deviation_of_the_fast_mode_and_a_slow_mode_is_none():
    runs = np.concatenate([level(1.0, 200), level(1.28, 200)])
    assert not outliers(runs).any()
    disturbed = np.append(runs, [3e5, 1e6, 0.5e5])
    assert outliers(disturbed).nonzero()[0].tolist() == [400, 401, 402]


def test_samples_that_repeat_to_the_nanosecond_do_not_make_their_neighbours_outliers():
    assert outliers(np.array([1e5] * 50 + [1.001e5, 2e5])).nonzero()[0].tolist() == [51]
