from __future__ import annotations

import numpy as np
import pytest

from luts.estimates import LATENCY_PERCENTILE, estimate, latency_ms


def visits_at_two_speeds(rng: np.random.Generator, count: int = 25, runs: int = 10, slow_share: float = 0.6) -> list[np.ndarray]:
    """A core that is at 1 ms or at 1.28 ms for a whole visit."""
    levels = np.where(rng.random(count) < slow_share, 1.28e6, 1.0e6)
    return [(level * (1 + np.abs(rng.normal(0, 0.005, runs)))).astype(np.int64) for level in levels]


def test_the_fast_level_of_a_core_at_two_speeds_is_found_where_the_median_is_far_off():
    rng = np.random.default_rng(1)
    found = [estimate(visits_at_two_speeds(rng)).latency_ms for _ in range(50)]
    medians = [np.median(np.concatenate(visits_at_two_speeds(rng))) / 1e6 for _ in range(50)]
    assert np.max(np.abs(np.array(found) - 1.0)) < 0.01
    assert np.median(medians) > 1.2


def test_the_latency_is_the_tenth_percentile_of_all_samples_of_all_visits():
    visits = [np.array([5, 1, 9, 4]) * 1_000_000, np.array([7, 2, 8]) * 1_000_000]
    expected = np.percentile([5, 1, 9, 4, 7, 2, 8], LATENCY_PERCENTILE)
    found = estimate(visits)
    assert found.latency_ms == pytest.approx(expected, rel=1e-12)
    assert (found.visits, found.samples) == (2, 7)


def test_halves_are_the_estimates_from_even_and_odd_visits():
    visits = [np.array([1_000_000, 1_000_000]), np.array([3_000_000]), np.array([1_000_000]), np.array([3_000_000, 3_000_000])]
    assert estimate(visits).halves_ms == (1.0, 3.0)


def test_one_visit_has_a_latency_but_no_spread_and_no_halves():
    found = estimate([np.array([2_000_000])])
    assert (found.latency_ms, found.relative_spread, found.visits, found.samples) == (2.0, None, 1, 1)
    assert np.isnan(found.halves_ms).all()


def test_no_visit_is_refused():
    with pytest.raises(ValueError, match="0 visits"):
        estimate([])


def test_equal_samples_have_no_spread():
    assert estimate([np.full(3, 70_000)] * 4).relative_spread == 0.0


def test_the_spread_is_that_of_sessions_measured_again_within_a_factor():
    rng = np.random.default_rng(2)
    sessions = [estimate([(1e6 * rng.lognormal(0, 0.05) * (1 + rng.random(10) / 100)).astype(np.int64) for _ in range(20)]) for _ in range(60)]
    truth = np.std([session.latency_ms for session in sessions]) / np.mean([session.latency_ms for session in sessions])
    assert 0.5 * truth < np.median([session.relative_spread for session in sessions]) < 2 * truth


def test_the_spread_grows_where_visits_differ_and_not_where_only_samples_do():
    rng = np.random.default_rng(3)
    same_in_all = [np.array([1_000_000, 1_100_000, 1_200_000, 1_300_000])] * 12
    differing = [(1e6 * (1 + rng.random()) * np.ones(4)).astype(np.int64) for _ in range(12)]
    assert estimate(same_in_all).relative_spread == 0.0
    assert estimate(differing).relative_spread > 0.02


def test_the_same_samples_give_the_same_spread():
    visits = visits_at_two_speeds(np.random.default_rng(4))
    assert estimate(visits).relative_spread == estimate(visits).relative_spread


def test_visits_of_very_different_lengths_are_weighed_by_their_samples():
    visits = [np.full(200, 1_000_000), np.full(1, 5_000_000), np.full(1, 6_000_000)]
    found = estimate(visits)
    assert found.latency_ms == 1.0
    assert found.relative_spread > 0  # the long visit may be absent from a draw


def test_the_latency_alone_is_that_of_the_estimate():
    visits = visits_at_two_speeds(np.random.default_rng(5))
    assert latency_ms(visits) == estimate(visits).latency_ms
