"""Models that take several images at a time, for a device that measures so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from profiler.cli.main import run
from profiler.exporting import whole_batches
from profiler.subnet import ExportedModel, SubnetFileError, read_subnet
from supernets.spaces import space

TINY = "ofa-mobilenetv3-tiny"


def test_images_are_repeated_until_they_fill_whole_batches():
    images = np.arange(5)[:, None]
    assert whole_batches(images, 5)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert whole_batches(images, 4)[:, 0].tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_a_batch_that_cannot_be_is_refused_and_one_of_1_is_not_written():
    plain = ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0)
    assert "batch" not in plain.to_dict()
    for batch in (0, 1.5, "4", True):
        with pytest.raises(SubnetFileError, match="batch is"):
            ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0, batch=batch)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "runtime"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")])
def test_models_of_a_batch_are_checked_and_judged_on_images_that_do_not_fill_their_batches(tmp_path, name, runtime):
    for package in ("torch", "onnxruntime", runtime):
        pytest.importorskip(package)
    subnet, out = tmp_path / "architecture.json", tmp_path / "exported"
    subnet.write_text(json.dumps(space(TINY).restrict({"resolution": [20]}).smallest().to_dict()))
    sizes = ["--calibration-images", "64", "--check-images", "10", "--range-images", "18", "--accuracy-images", "30"]
    assert run(["export", "--subnet", str(subnet), "--out", str(out), "--formats", name, "--precision", "int8", "--batch", "4", *sizes]) == 0
    plain, quantised = read_subnet(out / "subnet.json").models
    assert (plain.file, quantised.file) == (f"subnet.batch4.{name}", f"subnet.int8.batch4.{name}")
    assert (plain.batch, quantised.batch, plain.check_images, quantised.accuracy_images) == (4, 4, 10, 30)
    assert plain.same_top1 == 1 and plain.relative_difference < 1e-4 and quantised.same_top1 > 0.7
