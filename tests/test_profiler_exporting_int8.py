"""Export in int8: models beside the float ones, their accuracy before and after, and proof on a device that measures int8."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scripted_agent import ScriptedAgent

from profiler.cli.main import run
from profiler.exporting import parse_formats, parse_precision
from profiler.subnet import ExportedModel, SubnetFileError, SubnetRecord, read_subnet, record_of, write_subnet
from profiler.verifying import NothingToVerifyError, verify_subnet
from supernets.spaces import space

TINY = "ofa-mobilenetv3-tiny"
FLOAT = ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0)
INT8 = ExportedModel("onnx", "subnet.int8.onnx", "1" * 64, 5, 8, 0.1, 0.9, "int8", 64, 0.83, 0.84, 200)


@pytest.mark.torch
def test_int8_models_lie_beside_the_float_ones_and_state_the_accuracy_before_and_after(tmp_path, capsys):
    for package in ("torch", "onnxruntime", "ai_edge_litert"):
        pytest.importorskip(package)
    subnet, out = tmp_path / "architecture.json", tmp_path / "exported"
    subnet.write_text(json.dumps(space(TINY).restrict({"resolution": [20]}).smallest().to_dict()))
    sizes = ["--calibration-images", "256", "--check-images", "32", "--range-images", "64", "--accuracy-images", "200"]
    assert run(["export", "--subnet", str(subnet), "--out", str(out), "--precision", "int8", *sizes]) == 0
    said = " ".join(capsys.readouterr().err.split())
    record = read_subnet(out / "subnet.json")
    assert [(model.format, model.precision, model.file) for model in record.models] == [
        ("onnx", "float32", "subnet.onnx"), ("onnx", "int8", "subnet.int8.onnx"),
        ("tflite", "float32", "subnet.tflite"), ("tflite", "int8", "subnet.int8.tflite"),
    ]  # fmt: skip
    for model in record.models:
        assert (out / model.file).stat().st_size == model.bytes
    for plain, quantised in (record.models[:2], record.models[2:]):
        assert (plain.accuracy, plain.range_images) == (None, None)
        assert (quantised.range_images, quantised.accuracy_images) == (64, 200)
        assert quantised.bytes < 0.5 * plain.bytes
        assert 0.7 < quantised.float_accuracy < 0.95 and abs(quantised.accuracy - quantised.float_accuracy) < 0.04
        assert 0 < quantised.relative_difference < 0.3 and quantised.same_top1 > 0.9
        assert f"{quantised.file}: top-1 accuracy {quantised.accuracy:.2%} after quantisation, {quantised.float_accuracy:.2%} before" in said


def test_a_device_is_given_the_model_of_its_precision(tmp_path):
    record = record_of(space(TINY).smallest(), models=(FLOAT, INT8))
    for precision, file in (("float32", "subnet.onnx"), ("int8", "subnet.int8.onnx"), ("float16", "subnet.onnx")):
        with pytest.raises(FileNotFoundError, match=file):
            verify_subnet(record, tmp_path, ScriptedAgent(precision=precision), tmp_path / "v.lut", None, None, lambda done, total, note: None)
    lacking = record.changed(models=(FLOAT,))
    with pytest.raises(NothingToVerifyError, match=r"has no onnx model of precision int8 \(it has: onnx float32\)"):
        verify_subnet(lacking, tmp_path, ScriptedAgent(precision="int8"), tmp_path / "v.lut", None, None, lambda done, total, note: None)


def test_what_is_known_of_quantised_models_is_in_the_file_and_float_models_are_written_as_ever(tmp_path):
    record = record_of(space(TINY).smallest(), models=(FLOAT, INT8))
    write_subnet(tmp_path / "subnet.json", record)
    assert read_subnet(tmp_path / "subnet.json") == record
    plain, quantised = json.loads((tmp_path / "subnet.json").read_text())["models"]
    assert set(plain) == {"format", "file", "sha256", "bytes", "check_images", "relative_difference", "same_top1"}
    assert set(quantised) - set(plain) == {"precision", "range_images", "accuracy", "float_accuracy", "accuracy_images"}


@pytest.mark.parametrize(
    ("field", "value"), [("accuracy", 1.5), ("float_accuracy", "high"), ("range_images", 0), ("accuracy_images", 2.5), ("precision", 8)]
)
def test_figures_of_quantised_models_that_cannot_be_are_refused(field, value):
    data = record_of(space(TINY).smallest(), models=(INT8,)).to_dict()
    data["models"][0][field] = value
    with pytest.raises(SubnetFileError, match=f"{field} is {value!r}"):
        SubnetRecord.from_dict(data)


def test_what_cannot_be_exported_is_told_with_what_can():
    assert parse_formats("onnx,torch") == ("onnx", "torch")
    with pytest.raises(ValueError, match="unknown export format 'torch' of int8 models; known formats: onnx, tflite"):
        parse_formats("torch", "int8")
    with pytest.raises(ValueError, match="unknown export precision 'int4'; known precisions: float32, int8"):
        parse_precision("int4")


@pytest.mark.torch
def test_an_exported_pytorch_program_is_checked_like_every_other_model(tmp_path):
    pytest.importorskip("torch")
    from profiler.exporting import export_subnet, run_on_this_machine
    from supernets.export.subnet import cut_subnet
    from supernets.networks.supernet import Supernet

    searched = space(TINY)
    import torch

    images = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 1, 20, 20), dtype=np.float32))
    architecture = searched.restrict({"resolution": [20]}).smallest()
    subnet = cut_subnet(Supernet(searched, seed=0), architecture, [images])
    record = export_subnet(record_of(architecture), subnet, tmp_path, images.numpy(), run_on_this_machine, ("torch",))
    assert [(model.format, model.same_top1) for model in record.models] == [("torch", 1.0)]
