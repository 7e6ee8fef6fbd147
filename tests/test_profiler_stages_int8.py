"""The whole job in int8, and on runtimes that take models of other formats: what is exported, judged, verified and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from luts.condition import Condition
from profiler.cli.main import run
from profiler.pipeline import PRESETS, RunSettings
from profiler.report.data import Subnet
from profiler.run_under_way import formats_of
from profiler.subnet import ExportedModel, Verification, read_subnet
from search.settings import SearchSettings

TINY = "ofa-mobilenetv3-tiny"


@pytest.mark.parametrize(
    ("asked", "formats"),
    [
        ({"runtimes": ("openvino",)}, ("onnx",)),
        ({"runtimes": ("torch",)}, ("torch",)),
        ({"runtimes": ("litert", "onnxruntime")}, ("onnx", "tflite")),
        ({"runtimes": ("openvino", "onnxruntime"), "formats": ("torch",)}, ("onnx", "torch")),
        ({"device_settings": {"precision": "int8"}}, ("onnx", "tflite")),
        ({"device": "simulated"}, ("onnx", "tflite")),
    ],
)
def test_a_run_exports_what_its_runtimes_run(tmp_path: Path, asked: dict[str, object], formats: tuple[str, ...]) -> None:
    assert formats_of(RunSettings(TINY, tmp_path, **asked)) == formats  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--runtimes", "torch"], "no int8 models are made in format 'torch', which runtime 'torch' runs; expected onnx, tflite, or another"),
        (["--formats", "torch"], "no int8 models are made in format 'torch'; expected onnx, tflite, or another precision"),
        (["--device", "simulated"], "precision 'int8' was given for device 'simulated'"),
    ],
)
def test_models_that_cannot_be_made_are_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(["run", "--space", TINY, "--out", str(tmp_path / "run"), "--precision", "int8", *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_report_names_the_file_of_the_precision_and_batch_that_was_measured() -> None:
    plain = ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0)
    files = (plain, replace(plain, file="subnet.int8.onnx", precision="int8"), replace(plain, file="subnet.batch4.onnx", batch=4))

    def named(precision: str, batch: int) -> str:
        condition = Condition("local", "onnxruntime", "1", "cpu", 1, (0,), batch, precision, "test").to_dict()
        return Subnet(20, (), files=files).file_of(Verification("onnx", condition, None, 1.0, None, None, 1, 10))

    assert [named("float32", 1), named("int8", 1), named("float16", 4)] == ["subnet.onnx", "subnet.int8.onnx", "subnet.batch4.onnx"]
    assert named("int8", 4) == "onnx"  # no such file


@pytest.fixture
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run's stages do as little as they can."""
    from profiler import fitting, verifying
    from profiler.measuring import settings

    searches = {**PRESETS["tiny"].searches, "predicted": SearchSettings(population_size=10, generations=2, finalists=1)}
    numbers = replace(PRESETS["tiny"], validation_images=60, calibration_images=64, finalists=1, searches=searches)
    protocol = settings.ProtocolSettings(rounds=1, most_rounds=1, alone_visits=1, alone_runs=2, alone_warmup=0, chain_visits=1, chain_cycles=2,
                                         network_visits=6, network_runs=6, calibration_networks=10, held_out_networks=3, min_call_us=0)  # fmt: skip
    monkeypatch.setitem(PRESETS, "tiny", numbers)
    monkeypatch.setitem(settings.PRESETS, numbers.protocol, protocol)
    monkeypatch.setattr(verifying, "ROUNDS", 1)
    monkeypatch.setattr(verifying, "ROUND_MS", 50.0)
    ridge = fitting.fit_accuracy
    monkeypatch.setattr("profiler.choice_stages.fit_accuracy", lambda *given, **named: ridge(*given, names=("ridge",), **named))


@pytest.mark.torch
@pytest.mark.timeout(600)  # half a minute where nothing else runs
@pytest.mark.usefixtures("least")
def test_a_run_in_int8_verifies_int8_models_and_tells_the_accuracy_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("torch", "onnxruntime", "ai_edge_litert", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    out, small = tmp_path / "run", ["--resolutions", "20", "--samples", "50", "--workers", "1", "--preset", "tiny", "--max-latency-ms", "1000"]
    assert run(["run", "--space", TINY, "--runtime", "litert", "--precision", "int8", "--out", str(out), *small]) == 0
    said = capsys.readouterr()
    shown = " ".join(said.out.split())
    record = read_subnet(out / "subnet" / "subnet.json")
    plain, quantised = record.models
    assert (plain.file, quantised.file, quantised.range_images) == ("subnet.tflite", "subnet.int8.tflite", 256)
    (verification,) = record.verifications
    assert (verification.condition["precision"], verification.format, verification.kept) == ("int8", "tflite", True)
    assert record.condition == verification.condition and verification.predicted_latency_ms is not None
    assert quantised.accuracies() in said.err
    told = f"{quantised.accuracy:.2%} measured on 2000 test images; {quantised.float_accuracy:.2%} before quantisation"
    assert f"accuracy of subnet.int8.tflite {told}" in shown and "tflite int8 litert" in shown
    page = (out / "report.html").read_text()
    assert "accuracy before and after quantisation" in page and '<td class="file">subnet.int8.tflite</td>' in page
    stages = json.loads((out / "stages.json").read_text())
    (out / "subnet" / "subnet.int8.tflite").unlink()
    assert run(["run", "--space", TINY, "--runtime", "litert", "--precision", "int8", "--out", str(out), *small]) == 0
    assert (out / "subnet" / "subnet.int8.tflite").stat().st_size == quantised.bytes
    assert json.loads((out / "stages.json").read_text()) == stages
