"""What a run exports, and by what it chooses an accuracy predictor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from predictors.accuracy.judging import FOLDS, TEST_SHARE, cross_validated_rmse_points, evaluate_all, labelled_population, split
from profiler.files import FileKindError, write_json
from profiler.fitting import SELECTION_FILE, best_accuracy
from profiler.pipeline import RunSettings
from profiler.run_under_way import formats_of
from supernets.spaces import space as search_space

TINY = "ofa-mobilenetv3-tiny"


@pytest.mark.parametrize(
    ("runtimes", "asked", "exported"),
    [
        (None, (), ("onnx", "tflite")),
        (("onnxruntime",), (), ("onnx",)),
        (("litert",), (), ("tflite",)),
        (("litert", "onnxruntime"), (), ("onnx", "tflite")),
        (("onnxruntime",), ("tflite",), ("onnx", "tflite")),
    ],
)
def test_a_run_exports_what_its_runtimes_need_and_what_was_asked_for(
    tmp_path: Path, runtimes: tuple[str, ...] | None, asked: tuple[str, ...], exported: tuple[str, ...]
) -> None:
    assert formats_of(RunSettings(TINY, tmp_path, runtimes=runtimes, formats=asked)) == exported


def test_the_accuracy_predictor_is_chosen_by_subnets_that_its_quality_is_not_of(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    space = search_space(TINY)
    population = space.sample_different(90, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    labelled = labelled_population(TINY, population, 0.6 + 0.01 * population[:, 0] + rng.normal(0, 0.001, 90))
    training, test = split(labelled, TEST_SHARE, 0)
    errors = cross_validated_rmse_points(TINY, labelled, ["ridge"])
    assert 0 < errors["ridge"] < 1 and FOLDS > 1
    spoiled = labelled.accuracies.copy()
    spoiled[[row for row in range(90) if (test.population == population[row]).all(axis=1).any()]] = 0.1
    assert len(training) + len(test) == 90
    assert cross_validated_rmse_points(TINY, labelled_population(TINY, population, spoiled), ["ridge"]) == errors

    evaluate_all(TINY, labelled, names=["ridge"], sample_counts=())["ridge"].save(tmp_path / "ridge")
    write_json(tmp_path / SELECTION_FILE, {"cross_validated_rmse_points": {"mlp": 0.1, **errors}})
    name, quality = best_accuracy(tmp_path)
    assert (name, quality.test_count) == ("ridge", len(test))
    (tmp_path / SELECTION_FILE).write_text(json.dumps({"cross_validated_rmse_points": 5}))
    with pytest.raises(FileKindError, match=SELECTION_FILE):
        best_accuracy(tmp_path)
