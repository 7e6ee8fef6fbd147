from __future__ import annotations

import json
import math

import numpy as np
import pytest

from predictors.quality import AccuracyQuality, LabelledPopulation, LatencyQuality, SamplePoint, judge_accuracies, judge_latencies
from supernets import counts
from supernets.places import AdditiveCost
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
NAN = float("nan")


def test_latency_quality_by_hand():
    # errors +10 %, -5 %, 0 %, -10 %; halves apart by 10 % of their mean, 0, unknown, 4 %: half their mean is 14 / 3 / 2 %
    quality = judge_latencies(
        np.array([11.0, 19.0, 40.0, 45.0]), np.array([10.0, 20.0, 40.0, 50.0]), 7, np.array([[9.5, 10.5], [20, 20], [NAN, NAN], [49, 51]])
    )
    assert quality.mape_percent == pytest.approx(6.25)
    assert quality.bias_percent == pytest.approx(-1.25)
    assert (quality.within_5_share, quality.within_10_share) == (0.5, 1.0)
    assert abs(quality.worst_percent) == pytest.approx(10.0)
    assert (quality.spearman, quality.kendall) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (quality.calibration_count, quality.held_out_count) == (7, 4)
    assert quality.repeatability_percent == pytest.approx(7 / 3)
    assert quality.repeatability_kendall == pytest.approx(1.0)


def test_what_is_undefined_is_none_and_json_has_no_nan():
    quality = judge_latencies(np.array([2.0]), np.array([2.0]), 0, np.array([[NAN, NAN]]))
    assert (quality.spearman, quality.kendall, quality.repeatability_percent, quality.repeatability_kendall) == (None, None, None, None)
    assert LatencyQuality.from_dict(json.loads(json.dumps(quality.to_dict(), allow_nan=False))) == quality


def test_intervals_are_judged_by_share_and_width():
    quality = judge_latencies(
        np.array([10.0, 20.0]), np.array([11.0, 20.0]), 7, interval_ms=(np.array([9.0, 18.0]), np.array([10.5, 22.0])), judged_on="leave-one-out"
    )
    assert (quality.coverage_share, quality.interval_width_percent, quality.judged_on) == (0.5, pytest.approx(17.5), "leave-one-out")


def test_a_latency_quality_saved_before_intervals_were_judged_is_still_read():
    quality = judge_latencies(np.array([2.0]), np.array([2.0]), 3)
    older = {name: value for name, value in quality.to_dict().items() if name not in ("coverage_share", "interval_width_percent", "judged_on")}
    assert LatencyQuality.from_dict(older) == quality


def test_latency_quality_of_nothing_or_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        judge_latencies(np.empty(0), np.empty(0), 3)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        judge_latencies(np.ones(2), np.ones(3), 3)
    with pytest.raises(ValueError, match=r"halves_ms has the shape \(2, 3\); expected \(2, 2\)"):
        judge_latencies(np.ones(2), np.ones(2), 3, np.ones((2, 3)))


@pytest.fixture
def labelled():
    """Six networks of two resolutions: sizes rise inside each, accuracies rise with size at 20 pixels and fall at 32."""
    middle = {**TINY.smallest().values, "stage3.block0.kernel_size": 7}
    networks = [
        TINY.architecture({**values, "resolution": side}) for side in (20, 32) for values in (TINY.smallest().values, middle, TINY.largest().values)
    ]
    return LabelledPopulation(TINY.encode(networks), np.array([0.50, 0.51, 0.52, 0.63, 0.62, 0.61]))


def test_accuracy_quality_by_hand(labelled):
    predicted = np.array([0.51, 0.50, 0.52, 0.63, 0.62, 0.61])
    quality = judge_accuracies(TINY, predicted, labelled, labelled)
    assert quality.rmse_points == pytest.approx(100 * math.sqrt(2 * 0.01**2 / 6))
    assert quality.kendall == pytest.approx((14 - 1) / 15)
    assert quality.group == "resolution"
    assert quality.kendall_by_value == ((20, pytest.approx(1 / 3)), (32, pytest.approx(1.0)))
    assert quality.kendall_within == pytest.approx(2 / 3)
    assert quality.macs_kendall_within == pytest.approx(0.0)
    assert quality.label_std_points == pytest.approx(100 * labelled.accuracies.std())
    assert (quality.training_count, quality.test_count, quality.label_reliability) == (6, 6, None)


def test_the_baseline_is_the_least_squares_line_of_the_training_set(labelled):
    test, training = labelled[np.array([0, 3, 5])], labelled[np.array([1, 2, 4])]
    quality = judge_accuracies(TINY, np.full(3, 0.6), test, training)
    macs = AdditiveCost(TINY, counts.block_macs)
    for reached, scale in ((quality.macs_rmse_points, lambda x: x), (quality.log_macs_rmse_points, np.log)):
        slope, intercept = np.polyfit(scale(macs(training.population)), training.accuracies, 1)
        expected = np.sqrt(np.mean((intercept + slope * scale(macs(test.population)) - test.accuracies) ** 2))
        assert reached == pytest.approx(100 * expected)


def test_reliable_labels_are_told_from_noise():
    rng = np.random.default_rng(0)
    population = TINY.sample_different(800, rng)
    truth = 0.5 + 0.05 * population[:, 0]
    hits = rng.random((800, 300)) < truth[:, None]
    labelled = LabelledPopulation(population, hits.mean(axis=1), hits)
    quality = judge_accuracies(TINY, truth, labelled, labelled)
    assert quality.label_reliability > 0.7
    assert abs(quality.label_reliability_within) < 0.2
    assert quality.label_noise_points == pytest.approx(100 * np.sqrt((truth * (1 - truth) / 300).mean()), rel=0.1)
    assert quality.rmse_points == pytest.approx(quality.label_noise_points, rel=0.1)


def test_accuracy_quality_survives_json(labelled):
    curve = [SamplePoint(10, 1.5, None), SamplePoint(20, 1.0, 0.5)]
    quality = judge_accuracies(TINY, np.full(6, 0.5), labelled, labelled, sample_curve=curve)
    assert quality.kendall is None
    assert AccuracyQuality.from_dict(json.loads(json.dumps(quality.to_dict(), allow_nan=False))) == quality


@pytest.mark.parametrize("kind", [LatencyQuality, AccuracyQuality])
def test_unknown_and_missing_fields_are_refused(kind):
    with pytest.raises(ValueError, match="is unknown or missing"):
        kind.from_dict({"mape": 1.0})


def test_predictions_of_another_number_are_refused(labelled):
    with pytest.raises(ValueError, match=r"shape \(5,\) for 6 test architectures"):
        judge_accuracies(TINY, np.ones(5), labelled, labelled)
