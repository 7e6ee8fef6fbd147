"""The runtime torch-cuda inside a worker, request by request: real PyTorch and networks, on the CPU, under a fake torch.cuda and a fake pynvml."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from test_device_agents_nvml import FakeNvml

from device_agents.on_device import runtime_torch_cuda
from device_agents.on_device.wire import PROTOCOL_VERSION
from device_agents.on_device.worker import Worker

pytestmark = pytest.mark.torch


class FakeEvent:
    """A fake of torch.cuda.Event on a device that works while it is launched."""

    def __init__(self, enable_timing: bool) -> None:
        self.at_ns = 0

    def record(self) -> None:
        self.at_ns = time.perf_counter_ns()

    def query(self) -> bool:
        return False

    def elapsed_time(self, end: FakeEvent) -> float:
        return (end.at_ns - self.at_ns) / 1e6


class FakeStream:
    def wait_stream(self, other: FakeStream) -> None:
        pass


class FakeGraph:
    """A fake of torch.cuda.CUDAGraph: capturing runs the network, and replaying is counted."""

    replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1


@pytest.fixture
def torch(monkeypatch):
    import torch

    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(runtime_torch_cuda, "DEVICE", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, "")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.get_num_threads()

    @contextmanager
    def nothing(*given, **named):
        yield

    fakes = {
        "is_available": lambda: True, "get_device_name": lambda index: "Paper GPU", "synchronize": lambda: None, "_sleep": lambda clocks: None,
        "get_device_properties": lambda index: SimpleNamespace(L2_cache_size=1 << 20), "graph_pool_handle": lambda: (0, 1), "Event": FakeEvent,
        "Stream": FakeStream, "current_stream": FakeStream, "stream": nothing, "graph": nothing, "CUDAGraph": FakeGraph,
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    FakeGraph.replays = 0
    yield torch
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]
    torch.set_num_threads(before[2])


@pytest.fixture
def network(torch, tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 4, 6, 6),)), tmp_path / "network.pt2")
    return network


def asked(worker: Worker, request: str, **fields):
    reply = worker.answer(json.dumps({"request": request, **fields}).encode())
    assert reply["reply"] == request, reply
    return json.loads(json.dumps(reply))


def greeted(**options):
    worker = Worker()
    hello = asked(worker, "hello", protocol=PROTOCOL_VERSION, runtime="torch-cuda", threads=1, cores=[], options=options)
    return worker, hello


def test_the_worker_introduces_the_gpu_and_how_it_is_used(torch):
    _, hello = greeted(l2_flush=True, channels_last=True)
    assert (hello["runtime"], hello["delegate"], hello["cpu_model"]) == ("torch-cuda", "cuda-graph+l2-flush+channels-last", "Paper GPU")
    assert hello["runtime_version"] == f"{torch.__version__} CUDA 13.0"
    assert (hello["driver_version"], hello["tf32"], hello["cudnn_benchmark"]) == ("580.65.06", False, False)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert greeted(cuda_graphs=False)[1]["delegate"] == "eager"


def test_the_preflight_has_the_reference_clock_of_the_gpu(torch):
    worker, _ = greeted()
    preflight = asked(worker, "preflight")
    assert (preflight["clock_limits_khz"], preflight["clock_maxima_khz"]) == ([1_800_000], [2_100_000])
    assert preflight["state"]["temperature_c"] == 61.0


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": False}, {"l2_flush": True, "channels_last": True}])
def test_a_visit_has_its_samples_and_the_state_of_the_gpu(torch, network, tmp_path, options):
    worker, hello = greeted(**options)
    loaded = asked(worker, "load", model="m", path=str(tmp_path / "network.pt2"))
    assert (loaded["input_shapes"], loaded["input_dtypes"], loaded["delegate"]) == ([[1, 4, 6, 6]], ["float32"], hello["delegate"])
    visit = asked(worker, "run", id="v", models=["m", "m"], cycles=3, warmup_cycles=1, min_call_ns=0)
    assert np.shape(visit["samples_ns"]) == (2, 3) and np.min(visit["samples_ns"]) > 0
    assert (visit["state_after"]["frequency_khz"], visit["state_after"]["throttled"]) == (1_750_000, False)
    assert FakeGraph.replays == (0 if "cuda_graphs" in options else 2 * (1 + 1 + 3))  # warm-up, the cycle that finds the hold, timed ones


def test_outputs_are_those_of_the_network(torch, network, tmp_path):
    worker, _ = greeted(precision="float16")
    asked(worker, "load", model="m", path=str(tmp_path / "network.pt2"))
    inputs = np.random.default_rng(0).normal(size=(3, 4, 6, 6)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    asked(worker, "outputs", model="m", inputs_path=str(tmp_path / "inputs.npy"), outputs_path=str(tmp_path / "outputs.npy"))
    outputs = np.load(tmp_path / "outputs.npy")
    np.testing.assert_allclose(outputs, network(torch.from_numpy(inputs)).detach().numpy(), atol=5e-3)


def test_a_gpu_that_cuda_cannot_use_is_unreachable(torch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def refuses() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it.")

    monkeypatch.setattr(torch.cuda, "init", refuses)
    hello = {"request": "hello", "protocol": PROTOCOL_VERSION, "runtime": "torch-cuda", "threads": 1, "cores": []}
    reply = Worker().answer(json.dumps(hello).encode())
    assert (reply["reply"], reply["kind"]) == ("error", "unreachable")
    assert reply["message"] == (
        "PyTorch cannot use GPU '0' (The NVIDIA driver on your system is too old (found version 11040).); is the driver new enough for CUDA 13.0?"
    )


def test_a_board_whose_driver_lacks_nvml_is_measured_with_an_unknown_clock(torch, network, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeNvml, "nvmlInit", lambda self: self._answer("x", None) if not self.unable.add("x") else None)
    worker, hello = greeted()
    assert hello["cpu_model"] == "Paper GPU" and "driver_version" not in hello
    asked(worker, "load", model="m", path=str(tmp_path / "network.pt2"))
    visit = asked(worker, "run", id="v", models=["m"], cycles=2, warmup_cycles=0, min_call_ns=0)
    assert (visit["state_after"]["frequency_khz"], visit["state_after"]["throttled"]) == (None, None)
