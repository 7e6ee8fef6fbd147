# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Subnets judged on a GPU: that it is asked for there, by one process, within its memory, and that it is told apart.

No GPU computes here: one is said to be there, and a processor stands for it in everything but its name.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from luts.store import MeasurementStore
from profiler import accuracy, accuracy_workers, weight_stages
from profiler.accuracy import evaluate_architectures, sample_accuracies
from profiler.cli.app import app
from profiler.evaluating import CalibratedChildren
from profiler.pipeline import RunSettings
from supernets import spaces
from supernets.networks.checkpoint import save_supernet
from supernets.networks.supernet import Supernet
from supernets.training.machine import Machine
from tests.test_profiler_accuracy import FEW, SPACE, contents, image_data

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def images():
    return image_data()


@pytest.fixture(scope="module")
def space():
    return spaces.space(SPACE).restrict({"resolution": [20, 24]})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "supernet.safetensors"
    save_supernet(path, Supernet(spaces.space(SPACE), seed=1))
    return path


@pytest.fixture
def gpu(monkeypatch):
    """Say that there is a GPU, with 50 of its 80 kB free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Test GPU behind {device}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50 * 1024, 80 * 1024))


@pytest.fixture
def judged(monkeypatch):
    """Evaluate in this process, on its processor, and note what a worker would have been sent, and how many of them there were."""
    noted = []

    def evaluate(task, pieces, workers):
        noted.append((task, workers))
        space, evaluation = replace(task, device="cpu").evaluation()
        for piece in pieces:
            yield [(space.encode([architecture])[0].tolist(), hits) for architecture, hits in evaluation.hits(space.decode(piece))]

    monkeypatch.setattr(accuracy, "evaluate_in_workers", evaluate)
    return noted


def test_what_a_gpu_judged_is_a_protocol_of_its_own(space, weights, images, gpu, judged, tmp_path):
    with MeasurementStore(tmp_path / "accuracies.db") as store:
        own = sample_accuracies(space, weights, images, store, 2, seed=3, **FEW).protocol
        summary = sample_accuracies(space, weights, images, store, 2, seed=3, device="cuda:1", **FEW)
        assert (summary.measured, summary.present) == (2, 0), "what the processor judged does not stand for it"
        assert own.precision == "float32, batches of 256", "as in the files that are there already"
        assert summary.protocol == replace(own, precision=f"{own.precision}, on Test GPU behind cuda:1")
        assert len(contents(store, own)) == len(contents(store, summary.protocol)) == 2
    assert [task.device for task, _ in judged] == ["cpu", "cuda:1"]


def test_one_process_judges_on_a_gpu_and_keeps_within_half_of_its_free_memory(space, weights, images, gpu, judged):
    evaluate_architectures(space, weights, images, [space.smallest()], workers=8, calibration_images=20, device="cuda")
    evaluate_architectures(space, weights, images, [space.smallest()], workers=8, calibration_images=20)
    (on_gpu, one), (on_processor, several) = judged
    assert (one, several) == (1, 8)
    assert on_gpu._most_bytes() == 25 * 1024 / (20 + 30) and on_processor._most_bytes() == float("inf")


@pytest.mark.parametrize(("device", "said"), [("tpu", "device 'tpu' is unknown to training; expected cpu or cuda"), ("cuda", "finds no GPU here")])
def test_a_device_that_is_none_is_refused_before_anything_is_judged(space, weights, images, judged, monkeypatch, tmp_path, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for result in (
        lambda: evaluate_architectures(space, weights, images, [space.smallest()], device=device),
        lambda: weight_stages.measured_accuracies(run_of(tmp_path, weights, device), [space.smallest()], "test", None),
    ):
        with pytest.raises(ValueError, match=said):
            result()
    result = CliRunner().invoke(app, ["sample", "--device", device, "--weights", str(weights), "--out", str(tmp_path / "accuracies.db")])
    assert result.exit_code != 0 and said in str(result.exception) and not judged and not (tmp_path / "accuracies.db").exists()


def run_of(folder, weights, device):
    settings = RunSettings(SPACE, folder, training_device=device, workers=1)
    return SimpleNamespace(settings=settings, space=spaces.space(SPACE), weights=weights, images="fashion-mnist-subset", folder=folder)


def test_a_run_judges_where_it_trains(space, weights, images, gpu, judged, monkeypatch, tmp_path):
    monkeypatch.setattr("supernets.training.data.open_images", lambda *spec, **more: images)
    little = replace(RunSettings(SPACE, tmp_path).numbers, **FEW)
    monkeypatch.setattr(RunSettings, "numbers", property(lambda settings: replace(little, samples=2)))
    run = run_of(tmp_path, weights, "cuda")
    weight_stages.sample(run, lambda *now: None)
    weight_stages.measured_accuracies(run, [space.smallest()], "test", None)
    with MeasurementStore(tmp_path / "more.db") as store:
        CalibratedChildren(space, weights, "", 24, 20, store, 1, "cuda").predict(space.sample_different(2, np.random.default_rng(0)))
    assert [task.device for task, _ in judged] == ["cuda"] * 3 and run.protocol.precision.endswith("on Test GPU behind cuda")


def test_sample_has_its_own_device_and_one_process_on_a_gpu(weights, gpu, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("profiler.sampling.sample_into", lambda *facts: given.append(facts) or SimpleNamespace(sentence=lambda: "sampled"))
    for more in ([], ["--workers", "3"], ["--device", "cuda"]):
        result = CliRunner().invoke(app, ["sample", "--weights", str(weights), "--out", str(tmp_path / "accuracies.db"), *more])
        assert result.exit_code == 0, result.exception
    assert [(facts[5], facts[-1]) for facts in given] == [(2, "cpu"), (3, "cpu"), (1, "cuda")]


@pytest.mark.parametrize("command", [["sample", "--device", "cuda"], ["run", "--training-device", "cuda"]])
def test_several_processes_on_a_gpu_are_refused_in_one_sentence(command, gpu, tmp_path):
    result = CliRunner().invoke(app, [*command, "--workers", "4", "--out", str(tmp_path / "out")])
    assert str(result.exception) == "--workers 4 was asked for on device 'cuda'; one process keeps a GPU busy, leave --workers out"
    assert result.exception.exit_code == 2


def test_a_gpu_judges_in_float32_by_algorithms_that_repeat_their_bits(gpu):
    def flags():
        return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic

    before = flags()
    with Machine("cpu").judging():
        assert flags() == before
    with Machine("cuda").judging():
        assert flags() == (False, True)
    assert flags() == before


def test_a_worker_judges_so(space, weights, gpu, monkeypatch):
    found = []
    connection = SimpleNamespace(recv=lambda: task)
    task = SimpleNamespace(device="cuda", evaluation=lambda: (space, None))
    monkeypatch.setattr(accuracy_workers, "_evaluate_pieces", lambda *given: found.append((given, torch.backends.cudnn.allow_tf32)))
    threads = torch.get_num_threads()
    try:
        accuracy_workers._work_on_pieces(connection)
    finally:
        torch.set_num_threads(threads)
    assert found == [((connection, space, None), False)]
