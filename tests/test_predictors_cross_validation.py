from __future__ import annotations

import numpy as np
import pytest

from predictors.cross_validation import FOLDS, REPEATS, CrossValidation, cross_validate, student_t


def mean_of_others(population, latencies_ms, others):
    return np.full(len(others), latencies_ms.mean())


def test_few_networks_are_left_out_one_by_one():
    latencies_ms = np.array([1.0, 2.0, 4.0])
    found = cross_validate(mean_of_others, np.zeros((3, 1), dtype=np.int8), latencies_ms)
    np.testing.assert_allclose(found.log_ratios, np.log([[1 / 3, 2 / 2.5, 4 / 1.5]]))
    assert found.method == "networks left out one by one"
    np.testing.assert_allclose(found.errors_percent, [200, 25, 62.5])
    assert found.mape_percent == pytest.approx(287.5 / 3)


def test_no_network_is_predicted_by_a_fit_that_saw_it():
    population = np.arange(37, dtype=np.int8)[:, None]
    predictions = []

    def fit_and_predict(seen, latencies_ms, others):
        assert len(seen) == len(latencies_ms) == 37 - len(others) and not np.isin(others, seen).any()
        predictions.extend(others.ravel().tolist())
        return np.ones(len(others))

    found = cross_validate(fit_and_predict, population, np.arange(1.0, 38.0))
    assert sorted(predictions) == sorted(REPEATS * list(range(37)))
    assert found.log_ratios.shape == (REPEATS, 37)
    assert found.method == f"networks left out in {FOLDS} folds"


def test_one_network_cannot_be_left_out():
    assert cross_validate(mean_of_others, np.zeros((1, 1), dtype=np.int8), np.ones(1)) is None


@pytest.mark.parametrize(("degrees", "t"), [(1, 6.314), (2, 2.920), (9, 1.833), (23, 1.714), (1000, 1.646)])
def test_students_t_is_that_of_the_books(degrees, t):
    assert student_t(0.9, degrees) == pytest.approx(t, abs=0.001)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90])
def test_a_coverage_is_a_share(coverage):
    with pytest.raises(ValueError, match="coverage is .*; expected a share between 0 and 1"):
        student_t(coverage, 5)


@pytest.mark.parametrize("networks", [3, 10, 30])
@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_intervals_cover_what_they_say_however_few_the_networks(networks, bias):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        lower_ms, upper_ms = CrossValidation(rng.normal(bias, 0.02, (1, networks))).interval(np.full(200, 5.0), 0.9)
        measured_ms = 5.0 * np.exp(rng.normal(bias, 0.02, 200))
        covered.append(((lower_ms <= measured_ms) & (measured_ms <= upper_ms)).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)
