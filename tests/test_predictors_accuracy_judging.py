from __future__ import annotations

import numpy as np
import pytest

from predictors import accuracy
from predictors.accuracy.judging import evaluate_all, fit_and_judge, labelled_population, split
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
IMAGES = 400
SETTINGS = {"mlp": {"hidden": 16, "max_steps": 400, "learning_rate": 3e-3, "batch_size": 60}, "xgboost": {"max_trees": 100}}


@pytest.fixture(scope="module")
def labelled():
    """300 networks with hit bits: accuracy rises with log MACs, 0.07 in standard deviation, and is read on 400 images."""
    rng = np.random.default_rng(0)
    population = TINY.sample_different(300, rng)
    sizes = np.log(AdditiveCost(TINY, block_macs)(population))
    hits = rng.random((300, IMAGES)) < (0.6 + 0.07 * (sizes - sizes.mean()) / sizes.std())[:, None]
    return labelled_population(TINY.name, population, hits.mean(axis=1), [np.packbits(row).tobytes() for row in hits], IMAGES)


@pytest.mark.torch
def test_all_three_are_judged_on_the_same_networks_they_were_not_trained_on(labelled):
    for package in ("sklearn", "xgboost", "torch"):
        pytest.importorskip(package)
    started: list[str] = []
    judged = evaluate_all(TINY.name, labelled, settings=SETTINGS, sample_counts=(40, 120, 10_000), progress=started.append)
    assert list(judged) == started == ["ridge", "mlp", "xgboost"]
    for predictor in judged.values():
        quality = predictor.quality_
        assert (quality.training_count, quality.test_count) == (240, 60)
        assert [point.count for point in quality.sample_curve] == [40, 120, 240]
        assert quality.sample_curve[-1].rmse_points == quality.rmse_points
        assert quality.rmse_points < 0.7 * quality.label_std_points
        assert quality.kendall > 0.6
        assert 0.7 < quality.label_reliability < 1
        assert len(quality.kendall_by_value) == 4
    baselines = {(q.macs_kendall, q.macs_rmse_points, q.label_reliability) for q in (p.quality_ for p in judged.values())}
    assert len(baselines) == 1


def test_the_judged_predictor_is_saved_with_its_quality(labelled, tmp_path):
    pytest.importorskip("sklearn")
    training, test = split(labelled, 0.25, seed=1)
    predictor = fit_and_judge(accuracy.create("ridge", TINY.name), training, test, sample_counts=())
    assert [point.count for point in predictor.quality_.sample_curve] == [225]
    predictor.save(tmp_path)
    assert accuracy.load(tmp_path).quality_ == predictor.quality_


def test_split_is_decided_by_the_seed(labelled):
    first, again, other = split(labelled, 0.2, 3), split(labelled, 0.2, 3), split(labelled, 0.2, 4)
    assert np.array_equal(first[1].population, again[1].population)
    assert not np.array_equal(first[1].population, other[1].population)
    assert len(first[0]) + len(first[1]) == len(labelled)
    assert np.array_equal(first[0].hits.mean(axis=1), first[0].accuracies)


def test_an_architecture_given_twice_is_never_on_both_sides(labelled):
    twice = labelled[np.tile(np.arange(20), 3)]
    training, test = split(twice, 0.5, 0)
    assert not {row.tobytes() for row in training.population} & {row.tobytes() for row in test.population}
    assert (len(training), len(test)) == (30, 30)


def test_too_few_to_split_are_refused(labelled):
    with pytest.raises(ValueError, match="test_share 0.2 of 3 different architectures leaves 1 to test"):
        split(labelled[:3], 0.2, 0)
    with pytest.raises(ValueError, match="expected two on each side"):
        split(labelled, 1.0, 0)
    with pytest.raises(ValueError, match="0 different architectures"):
        split(labelled[:0], 0.2, 0)


def test_labels_are_checked():
    population = TINY.sample_population(3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="divide per cent by 100"):
        labelled_population(TINY.name, population, np.array([55.0, 60.0, 65.0]))
    with pytest.raises(ValueError, match="hits are given for 2 architectures; expected 3"):
        labelled_population(TINY.name, population, np.full(3, 0.5), [b"a", b"b"], 8)
    with pytest.raises(ValueError, match="this array has"):
        labelled_population(TINY.name, population[:, 1:], np.full(3, 0.5))
