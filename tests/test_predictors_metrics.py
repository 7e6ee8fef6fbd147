from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors import metrics

PREDICTED, MEASURED = np.array([11.0, 19.0, 40.0, 45.0]), np.array([10.0, 20.0, 40.0, 50.0])
SMALL_NUMBERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=40)


def test_relative_errors_by_hand():
    # +10 %, -5 %, 0 %, -10 %
    assert metrics.mape_percent(PREDICTED, MEASURED) == pytest.approx(6.25)
    assert metrics.bias_percent(PREDICTED, MEASURED) == pytest.approx(-1.25)
    assert metrics.within_share(PREDICTED, MEASURED, 5.0) == 0.5
    assert metrics.within_share(PREDICTED, MEASURED, 10.0) == 1.0
    assert metrics.worst_percent(np.array([11.0, 15.0]), np.array([10.0, 20.0])) == pytest.approx(-25)
    assert metrics.rmse(np.array([1.0, 5.0]), np.array([4.0, 1.0])) == pytest.approx(math.sqrt(12.5))


def test_rmse_and_mape_are_those_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    assert metrics.rmse(PREDICTED, MEASURED) == pytest.approx(reference.root_mean_squared_error(MEASURED, PREDICTED))
    assert metrics.mape_percent(PREDICTED, MEASURED) == pytest.approx(100 * reference.mean_absolute_percentage_error(MEASURED, PREDICTED))


@given(SMALL_NUMBERS)
def test_rank_correlations_with_ties_are_those_of_scipy(pairs):
    stats = pytest.importorskip("scipy.stats")
    x, y = np.array(pairs, dtype=np.float64).T
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(metrics.kendall(x, y))
        assert math.isnan(metrics.spearman(x, y))
    else:
        assert metrics.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
        assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_rank_correlations_of_many_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    y = np.round(x + rng.normal(size=3000), 1)
    assert metrics.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_kendall_by_hand():
    # pairs: (1,2) falls, the other five rise
    assert metrics.kendall(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(4 / 6)
    assert math.isnan(metrics.kendall(np.empty(0), np.empty(0)))


def test_kendall_within_groups_looks_at_each_group_alone():
    x, y = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0]), np.array([1.0, 2.0, 3.0, 13.0, 12.0, 11.0])
    assert metrics.kendall_within(x, y, np.array([0, 0, 0, 4, 4, 4])) == {0: 1.0, 4: -1.0}


def test_bits_are_unpacked_first_image_first():
    rows = [np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 1], dtype=bool), np.zeros(10, dtype=bool)]
    assert np.array_equal(metrics.hit_bits([np.packbits(row).tobytes() for row in rows], 10), np.stack(rows))
    with pytest.raises(ValueError, match="hits of architecture 1 are 1 bytes; expected 2 for 10 images"):
        metrics.hit_bits([b"ab", b"c"], 10)


def test_spearman_and_brown_by_hand():
    assert metrics.spearman_brown(0.5) == pytest.approx(2 / 3)
    assert metrics.spearman_brown(1.0) == 1.0
    assert math.isnan(metrics.spearman_brown(-1.0))


def test_reliability_is_the_share_of_variance_that_is_not_noise():
    rng = np.random.default_rng(0)
    truth = rng.normal(0.6, 0.03, 3000)
    hits = rng.random((3000, 500)) < truth[:, None]
    noise = (truth * (1 - truth) / 500).mean()
    assert metrics.split_half_reliability(hits) == pytest.approx(truth.var() / (truth.var() + noise), abs=0.02)


def test_reliability_of_one_split_by_hand():
    hits = np.array([[1, 1], [1, 0], [0, 0], [0, 1], [1, 1]], dtype=bool)
    half = metrics.pearson(hits[:, 0].astype(float), hits[:, 1].astype(float))
    assert metrics.split_half_reliability(hits, splits=3) == pytest.approx(2 * half / (1 + half))


def test_reliability_inside_groups_sees_no_difference_between_them():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 400)
    hits = rng.random((800, 400)) < np.where(groups, 0.7, 0.4)[:, None]
    assert metrics.split_half_reliability(hits) > 0.95
    assert abs(metrics.split_half_reliability(hits, groups)) < 0.15


def test_reliability_repeats_and_needs_two_of_each():
    hits = np.random.default_rng(0).random((50, 64)) < 0.5
    assert metrics.split_half_reliability(hits) == metrics.split_half_reliability(hits)
    for shape in ((1, 8), (8, 1)):
        with pytest.raises(ValueError, match="needs at least two"):
            metrics.split_half_reliability(np.ones(shape, dtype=bool))
