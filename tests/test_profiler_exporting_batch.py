"""Models that take several images at a time, for a device that measures so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from profiler import exporting
from profiler.cli.main import run
from profiler.exporting import whole_batches
from profiler.subnet import ExportedModel, SubnetFileError, read_subnet
from supernets.spaces import space

TINY = "ofa-mobilenetv3-tiny"


def test_images_are_repeated_until_they_fill_whole_batches():
    images = np.arange(5)[:, None]
    assert whole_batches(images, 5)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert whole_batches(images, 4)[:, 0].tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_images_that_fill_whole_batches_are_not_copied():
    images = np.arange(8)[:, None]
    assert whole_batches(images, 4) is images


@pytest.mark.parametrize(("batch", "given"), [(1, [5, 5, 1]), (2, [4, 4, 4]), (4, [4, 4, 4]), (7, [7, 7]), (30, [30])])
def test_a_runtime_is_given_some_batches_at_a_time_and_no_output_is_lost(monkeypatch, batch, given):
    images, seen = np.arange(11, dtype=np.float32)[:, None], []
    monkeypatch.setattr(exporting, "CALL_BYTES", 5 * images[:1].nbytes)
    outputs = exporting._run_in_batches(lambda model, shown: (seen.append(len(shown)), shown + 1)[1], batch, b"", images)
    assert np.array_equal(outputs, images + 1) and seen == given


@pytest.mark.torch
def test_a_batch_that_memory_does_not_hold_is_refused_in_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(exporting, "MOST_BATCH_BYTES", 100_000)
    subnet = tmp_path / "architecture.json"
    subnet.write_text(json.dumps(space(TINY).restrict({"resolution": [20]}).smallest().to_dict()))
    assert run(["export", "--subnet", str(subnet), "--out", str(tmp_path / "out"), "--batch", "4000", "--calibration-images", "64"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "a batch of 4000 images of 20 pixels takes 0.0 GB of memory to check a model with; expected 0.0001 GB at most" in told
    assert not (tmp_path / "out").exists()


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
