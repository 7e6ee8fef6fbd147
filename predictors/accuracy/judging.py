"""Accuracy predictors fitted on one part of the sampled accuracies and judged on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from predictors import accuracy, metrics
from predictors.base import AccuracyPredictor
from predictors.population import Numbers, PopulationCheck, checked_figures
from predictors.quality import LabelledPopulation, SamplePoint, judge_accuracies
from supernets import spaces
from supernets.space import Population

NAMES = tuple(accuracy.ACCURACY_PREDICTORS)
TEST_SHARE = 0.2
FOLDS = 3
SAMPLE_COUNTS = (100, 300, 1000, 3000, 10_000)  # of the sample curve, as far as the training set reaches


def labelled_population(
    space_name: str, population: Population, accuracies: Numbers, hits: Sequence[bytes] | None = None, images: int = 0
) -> LabelledPopulation:
    """Return checked architectures with their accuracies; `hits` are the packed bits of `images` images, one row for each.

    Raises:
        ValueError: a population of another space, an accuracy that is not a share, or hits of another length.
        UnknownSpaceError: no space has that name.
    """
    codes = PopulationCheck(spaces.space(space_name))(population)
    figures = checked_figures(accuracies, len(codes), "accuracies (shares; divide per cent by 100)", 0.0, 1.0)
    if hits is not None and len(hits) != len(codes):
        raise ValueError(f"hits are given for {len(hits)} architectures; expected {len(codes)}")
    return LabelledPopulation(codes, figures, None if hits is None else metrics.hit_bits(list(hits), images))


def split(labelled: LabelledPopulation, test_share: float, seed: int) -> tuple[LabelledPopulation, LabelledPopulation]:
    """Return training and test set, shuffled by the seed; an architecture given twice is never in both.

    Raises:
        ValueError: the share leaves one of them with fewer than two architectures.
    """
    _, numbers = np.unique(labelled.population, axis=0, return_inverse=True)
    different = int(numbers.max(initial=-1)) + 1
    test_count = round(test_share * different)
    if test_count < 2 or different - test_count < 2:
        raise ValueError(f"test_share {test_share} of {different} different architectures leaves {test_count} to test; expected two on each side")
    rng = np.random.default_rng(seed)
    in_test = np.isin(numbers.ravel(), rng.permutation(different)[:test_count])
    order = rng.permutation(len(labelled))
    return labelled[order[~in_test[order]]], labelled[order[in_test[order]]]


def fit_and_judge(
    predictor: AccuracyPredictor, training: LabelledPopulation, test: LabelledPopulation, sample_counts: Iterable[int] = SAMPLE_COUNTS
) -> AccuracyPredictor:
    """Return the predictor fitted on the training set, its `quality_` told by the test set.

    The sample curve holds it fitted on the first `sample_counts` of the training set, and on all of it.
    """
    curve = []
    for count in sorted({count for count in sample_counts if 2 <= count < len(training)}):
        predicted = predictor.fit(training.population[:count], training.accuracies[:count]).predict(test.population)
        curve.append(_point(count, predicted, test))
    predicted = predictor.fit(training.population, training.accuracies).predict(test.population)
    curve.append(_point(len(training), predicted, test))
    predictor.quality_ = judge_accuracies(predictor.space_, predicted, test, training, sample_curve=curve)
    return predictor


def _point(count: int, predicted: Numbers, test: LabelledPopulation) -> SamplePoint:
    tau = metrics.kendall(predicted, test.accuracies)
    return SamplePoint(count, 100 * metrics.rmse(predicted, test.accuracies), None if np.isnan(tau) else tau)


def evaluate_all(
    space_name: str, labelled: LabelledPopulation, *, names: Iterable[str] = NAMES, settings: Mapping[str, Mapping[str, Any]] | None = None,
    test_share: float = TEST_SHARE, seed: int = 0, sample_counts: Sequence[int] = SAMPLE_COUNTS, progress: Callable[[str], None] | None = None,
) -> dict[str, AccuracyPredictor]:  # fmt: skip
    """Return name → predictor fitted on one part, with its `quality_` on the other; all on the same parts, split by the seed.

    `settings` are constructor arguments by name of predictor; `progress` is called with each name before its work begins.

    Raises:
        ValueError: too few architectures to split.
        ImportError: the package a predictor learns with is not installed.
    """
    training, test = split(labelled, test_share, seed)
    judged = {}
    for name in names:
        if progress is not None:
            progress(name)
        predictor = accuracy.create(name, space_name, **(settings or {}).get(name, {}))
        judged[name] = fit_and_judge(predictor, training, test, sample_counts)
    return judged


def cross_validated_rmse_points(space_name: str, labelled: LabelledPopulation, names: Iterable[str], *, seed: int = 0) -> dict[str, float]:
    """Return name → error in points on parts of the training part of `evaluate_all` that each fit leaves out.

    It is what to choose by: the subnets that `quality_` tells of stay unseen, so a choice does not flatter it.

    Raises:
        ValueError: too few architectures to split.
        ImportError: the package a predictor learns with is not installed.
    """
    training, _ = split(labelled, TEST_SHARE, seed)
    folds = np.arange(len(training)) % FOLDS  # `split` has shuffled it
    errors = {}
    for name in names:
        predicted = np.empty(len(training))
        for fold in range(FOLDS):
            kept = training[folds != fold]
            predictor = accuracy.create(name, space_name).fit(kept.population, kept.accuracies)
            predicted[folds == fold] = predictor.predict(training.population[folds == fold])
        errors[name] = 100 * metrics.rmse(predicted, training.accuracies)
    return errors
