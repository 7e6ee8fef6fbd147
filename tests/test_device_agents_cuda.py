"""CudaAgent: what a machine without a GPU says, what runtimes refuse, and, where there is a GPU, the whole contract."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

from device_agents import archive
from device_agents.base import Check, DeviceUnreachable, RuntimeMissing, VisitPlan
from device_agents.cuda import SWITCHES, CudaAgent
from device_agents.local import LocalAgent
from device_agents.on_device.runtimes import RUNTIMES, runtime_class

GPU_RUNTIMES = tuple(SWITCHES)


def has_gpu() -> bool:
    """Whether an NVIDIA driver lists a GPU; asked before tests are collected, so that nothing heavy is imported."""
    try:
        import pynvml
    except ImportError:
        return False
    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False


HAS_GPU = has_gpu()
needs_none = pytest.mark.skipif(HAS_GPU, reason="this machine has an NVIDIA GPU")


@pytest.fixture
def exported(tmp_path):
    """Give a maker of exported programs of one convolution; returns the network and its file."""
    torch = pytest.importorskip("torch")

    def make(example=None):
        network = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Hardswish()).eval()
        given = torch.zeros(2, 8, 6, 6) if example is None else example
        program = torch.export.export(network if example is None else torch.nn.Identity(), (given,))
        file = tmp_path / "network.pt2"
        torch.export.save(program, file)
        return network, file

    return make


# --- a machine without a GPU ----------------------------------------------------------------------------------------------


@needs_none
def test_pytorch_that_is_built_for_the_cpu_is_named_with_the_cure():
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("PyTorch here is built for CUDA")
    with CudaAgent() as agent, pytest.raises(RuntimeMissing) as caught:
        agent.info()
    assert str(caught.value) == (
        f"device 'local-gpu': running networks on an NVIDIA GPU needs PyTorch built for CUDA, and the one here is {torch.__version__}; "
        "install a build for CUDA, as pytorch.org/get-started says"
    )


@needs_none
@pytest.mark.parametrize(
    ("runtime", "provider"), [("onnxruntime-cuda", "CUDAExecutionProvider"), ("onnxruntime-tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_is_not_built_in_is_named_with_those_that_are(runtime, provider):
    onnxruntime = pytest.importorskip("onnxruntime")
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"ONNX Runtime here has {provider}")
    with CudaAgent(runtime=runtime) as agent, pytest.raises(RuntimeMissing) as caught:
        agent.info()
    assert str(caught.value) == (
        f"device 'local-gpu': running ONNX files on an NVIDIA GPU needs ONNX Runtime built with {provider}, and the one here "
        f"({onnxruntime.__version__}) has only {', '.join(onnxruntime.get_available_providers())}; install onnxruntime-gpu in place of onnxruntime"
    )


@needs_none
def test_a_gpu_runtime_without_a_driver_is_unreachable(tmp_path):
    pytest.importorskip("torch")
    pynvml = pytest.importorskip("pynvml")
    for source in archive.ON_DEVICE.glob("*.py"):  # as if this PyTorch were built for CUDA
        (tmp_path / source.name).write_text(source.read_text().replace("if torch.version.cuda is None", "if False"))
    with CudaAgent(worker_archive=archive.pack(tmp_path)) as agent, pytest.raises(DeviceUnreachable) as caught:
        list(agent.measure({"m": b"x"}, [VisitPlan("p", ("m",), 1)]))
    assert re.fullmatch(
        r"device 'local-gpu': no NVIDIA driver answers \(.+\); install and load it, until nvidia-smi lists the GPU", str(caught.value)
    )
    with pytest.raises(pynvml.NVMLError):
        pynvml.nvmlInit()


@needs_none
def test_checking_ends_with_the_driver_that_does_not_answer():
    pytest.importorskip("pynvml")
    (check,) = CudaAgent().checks()
    assert (check.name, check.passed) == ("driver", False)
    assert check.text.startswith("device 'local-gpu': no NVIDIA driver answers (")


@needs_none
def test_a_missing_package_of_nvml_fails_the_first_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (check,) = CudaAgent().checks()
    assert check == Check("driver", False, check.text)
    assert "'elastic-latency[cuda]'" in check.text


@needs_none
@pytest.mark.parametrize(
    "command",
    [
        ["collect", "--device", "local-gpu", "--space", "ofa-mobilenetv3-tiny", "--out", "gpu.lut"],
        ["collect", "--device", "local-gpu", "--space", "ofa-mobilenetv3-tiny", "--out", "gpu.lut", "--runtime", "onnxruntime-cuda"],
    ],
)
def test_the_command_line_says_it_in_one_line_and_writes_no_table(tmp_path, command):
    found = subprocess.run([sys.executable, "-m", "profiler", *command], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=120)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr and "install" in found.stderr
    assert len(found.stderr.strip().splitlines()) <= 5  # one sentence, wrapped
    assert not (tmp_path / "gpu.lut").exists()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(archive.__file__).parents[1])}


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "onnxruntime"}, f"runtime 'onnxruntime' does not run on an NVIDIA GPU; expected one of {', '.join(GPU_RUNTIMES)}"),
        ({"runtime": "onnxruntime-cuda", "l2_flush": True}, "l2_flush was given, and runtime 'onnxruntime-cuda' has only cuda_graphs"),
        ({"cuda_graphs": "yes"}, "cuda_graphs is 'yes'; expected true or false"),
        ({"gpu": -1}, "gpu is -1; expected an index such as 0, or a UUID"),
        ({"gpu": True}, "gpu is True"),
        ({"clock_mhz": 0}, "clock_mhz is 0; expected a whole number of at least 1"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        CudaAgent(**settings)


def test_settings_reach_the_worker():
    agent = CudaAgent(gpu=1, precision="float16", l2_flush=True, channels_last=False, clock_mhz=1200)
    assert agent.runtime_options == {"gpu": "1", "precision": "float16", "l2_flush": True, "channels_last": False}
    assert json.loads(json.dumps(agent.runtime_options)) == agent.runtime_options
    assert agent.model_format == "torch"
    assert CudaAgent(runtime="onnxruntime-tensorrt").model_format == "onnx"


def test_every_gpu_runtime_is_registered_and_takes_its_switches():
    assert set(GPU_RUNTIMES) <= set(RUNTIMES)
    for name in GPU_RUNTIMES:
        taken = inspect.signature(runtime_class(name)).parameters
        assert {"gpu", "precision", *SWITCHES[name]} <= set(taken)
        assert runtime_class(name).name == name


@needs_none
def test_engines_of_tensorrt_are_kept_as_long_as_the_agent_and_no_longer():
    with CudaAgent(runtime="onnxruntime-tensorrt") as agent:
        folders = set()
        for _ in range(2):
            with pytest.raises((RuntimeMissing, DeviceUnreachable)):
                agent.info()
            folders.add(agent.runtime_options["engines"])
        (folder,) = folders
        assert Path(folder).is_dir()
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("runtime", "precision", "runs"),
    [
        ("torch-cuda", "int8", "float32 and float16"), ("onnxruntime-cuda", "float16", "float32"),
        ("onnxruntime-tensorrt", "bfloat16", "float32 and float16"), ("onnxruntime", "float16", "float32 and int8"),
    ],
)  # fmt: skip
def test_a_precision_that_a_runtime_does_not_run_is_refused_and_never_only_written_down(runtime, precision, runs):
    agent = LocalAgent if runtime == "onnxruntime" else CudaAgent
    with pytest.raises(ValueError, match=f"precision is '{precision}'; runtime '{runtime}' runs {runs}$"):
        agent(runtime=runtime, precision=precision)


def test_a_gpu_runtime_is_told_its_precision_wherever_it_runs():
    assert LocalAgent(runtime="torch-cuda", precision="float16").runtime_options == {"precision": "float16"}
    assert LocalAgent(precision="int8").runtime_options == {}


# --- networks of PyTorch, on the CPU: what does not depend on where they run ----------------------------------------------


def test_an_exported_program_is_moved_and_converted(exported):
    torch = pytest.importorskip("torch")
    from device_agents.on_device.runtime_torch_cuda import network, outputs_of

    expected, file = exported()
    options = {"device": "cpu", "dtype": torch.float16, "memory_format": torch.channels_last}
    module, shape, dtype = network(torch, str(file), options)
    assert (shape, dtype) == ([2, 8, 6, 6], "float32")
    weights = module.state_dict()["0.weight"]
    assert weights.dtype == torch.float16 and weights.is_contiguous(memory_format=torch.channels_last)
    batch = np.random.default_rng(0).normal(size=(2, 8, 6, 6)).astype(np.float32)
    outputs = outputs_of(torch, module, options, batch)
    assert outputs.dtype == np.float32 and outputs.flags.c_contiguous
    np.testing.assert_allclose(outputs, expected(torch.from_numpy(batch)).detach().numpy(), atol=5e-3)


def test_a_whole_network_leaves_nothing_on_the_cpu(tmp_path):
    torch = pytest.importorskip("torch")
    from device_agents.on_device.runtime_torch_cuda import network, outputs_of
    from supernets.export.torch_program import torch_model
    from supernets.export.weights import random_folded_weights
    from supernets.spaces import space

    tiny = space("ofa-mobilenetv3-tiny")
    blocks = list(tiny.blocks(tiny.smallest()))
    file = tmp_path / "network.pt2"
    file.write_bytes(torch_model(blocks, random_folded_weights(blocks)))
    elsewhere, shape, _ = network(torch, str(file), {"device": "meta", "dtype": torch.float16, "memory_format": torch.channels_last})
    assert elsewhere(torch.zeros(shape, device="meta", dtype=torch.float16)).shape == (1, 10)
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = [
        outputs_of(torch, network(torch, str(file), options)[0], options, batch)
        for options in ({"device": "cpu", "dtype": torch.float32}, {"device": "cpu", "dtype": torch.float16, "memory_format": torch.channels_last})
    ]
    assert np.abs(found[0] - found[1]).max() < 5e-3 * np.abs(found[0]).max()


def test_a_program_of_whole_numbers_is_refused(exported):
    torch = pytest.importorskip("torch")
    from device_agents.on_device.runtime_torch_cuda import network

    _, file = exported(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="the model takes inputs of int64; on the GPU networks of one floating-point input are run"):
        network(torch, str(file), {"device": "cpu"})


# --- nodes that ONNX Runtime puts elsewhere: real ones, by a provider that takes none ----------------------------------


@pytest.fixture
def onnx_file(tmp_path):
    pytest.importorskip("onnx")
    from supernets.export.onnx_graph import onnx_model

    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_model([pointwise_block("small")], pointwise_weights("small")))
    return str(file)


def test_nodes_that_go_to_the_cpu_are_an_error_that_counts_them(onnx_file):
    onnxruntime = pytest.importorskip("onnxruntime")
    from device_agents.on_device.runtime_onnxruntime_cuda import session_on

    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that takes no node of a model")
    with pytest.raises(RuntimeError) as caught:
        session_on(onnxruntime, onnx_file, "AzureExecutionProvider", {}, 1)
    assert str(caught.value) == (
        "AzureExecutionProvider does not take all nodes of the model, and none may run elsewhere: 1 Conv on CPUExecutionProvider"
    )


def test_a_session_bound_to_memory_gives_the_outputs_of_what_it_is_given(onnx_file):
    onnxruntime = pytest.importorskip("onnxruntime")
    from device_agents.on_device.runtime_onnxruntime_cuda import bound

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    made = bound(onnxruntime, session, "cpu", "test")
    assert (made.input_shapes, made.input_dtypes, made.delegate) == ([[1, 8, 8, 8]], ["float32"], "test")
    weights = pointwise_weights("small")
    for seed in range(2):
        batch = np.random.default_rng(seed).normal(size=(1, 8, 8, 8)).astype(np.float32)
        expected = np.einsum("oi,nihw->nohw", weights["small.conv.weight"][:, :, 0, 0], batch) + weights["small.conv.bias"][:, None, None]
        np.testing.assert_allclose(made.infer(batch), expected, rtol=1e-4, atol=1e-5)
        made.run()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("onnxruntime-cuda", {"precision": "float32", "cuda_graphs": True}, {"device_id": "0", "use_tf32": "0", "enable_cuda_graph": "1"}),
        (
            "onnxruntime-tensorrt", {"precision": "float16", "cuda_graphs": False, "engines": "folder"},
            {
                "device_id": "0", "trt_cuda_graph_enable": "False", "trt_fp16_enable": "True", "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": "folder",
            },
        ),
    ],
)  # fmt: skip
def test_each_provider_is_told_in_its_own_words(monkeypatch, name, settings, expected):
    module = importlib.import_module("device_agents.on_device.runtime_onnxruntime_cuda")
    monkeypatch.setattr(module, "_onnxruntime", lambda provider: type("Fake", (), {"__version__": "1"}))
    monkeypatch.setattr(module, "Gpu", lambda chosen: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    runtime = runtime_class(name)(1, **settings)
    assert runtime.provider_options() == expected
    assert runtime.delegate == {"onnxruntime-cuda": "CUDAExecutionProvider+cuda-graph"}.get(name, "TensorrtExecutionProvider")


@needs_none
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "TensorrtExecutionProvider"])
def test_a_session_that_falls_back_to_the_cpu_as_a_whole_is_an_error(onnx_file, provider):
    onnxruntime = pytest.importorskip("onnxruntime")
    from device_agents.on_device.runtime_onnxruntime_cuda import session_on

    with pytest.raises(RuntimeError, match=f"{provider} does not take all nodes of the model.*1 Conv on CPUExecutionProvider"):
        session_on(onnxruntime, onnx_file, provider, {}, 1)


def test_a_session_that_lacks_the_provider_is_an_error_even_where_no_node_is_told_of(onnx_file):
    pytest.importorskip("onnxruntime")
    from device_agents.on_device.runtime_onnxruntime_cuda import session_on

    class Session:  # a double of a session of ONNX Runtime 1.18, which tells its providers only
        def disable_fallback(self):
            pass

        def get_providers(self):
            return ["CPUExecutionProvider"]

    class Runtime:
        import onnxruntime

        SessionOptions, ExecutionMode = onnxruntime.SessionOptions, onnxruntime.ExecutionMode
        GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel

        @staticmethod
        def InferenceSession(path, options, providers):
            return Session()

    with pytest.raises(RuntimeError, match="CUDAExecutionProvider was asked for, and the session has CPUExecutionProvider"):
        session_on(Runtime, onnx_file, "CUDAExecutionProvider", {}, 1)


# --- a real GPU -----------------------------------------------------------------------------------------------------------


class OnGpu(AgentContract):
    """The contract on a real GPU."""

    settings: ClassVar[dict[str, object]]

    @pytest.fixture
    def agent(self):
        agent = CudaAgent(**self.settings)
        try:
            agent.info()
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
        return agent

    def test_the_gpu_is_what_is_described(self, agent):
        with agent:
            info = agent.info()
        assert info.cpu_model and info.extra["driver_version"] and info.extra["compute_capability"] and info.extra["tf32"] is False

    def test_the_clock_is_read_and_every_check_passes_or_cannot_tell(self, agent, models):
        with agent:
            (visit,) = agent.measure(models, [VisitPlan("v", ("large",), 20, 5)])
            checks = list(agent.checks())
        assert visit.state_after.frequency_khz and visit.state_after.temperature_c and visit.state_after.throttled is not None
        assert [check.name for check in checks][:3] == ["driver", "GPU", "runtime"]
        assert all(check.passed is not False for check in checks if check.name not in ("other processes", "throttling"))


class OnGpuWithTorch(OnGpu):
    @pytest.fixture
    def models(self):
        torch = pytest.importorskip("torch")

        def program(name: str) -> bytes:
            block, weights = pointwise_block(name), pointwise_weights(name)
            network = torch.nn.Conv2d(block.in_channels, block.out_channels, 1)
            network.load_state_dict({part: torch.from_numpy(weights[f"{name}.conv.{part}"]) for part in ("weight", "bias")})
            saved = io.BytesIO()
            given = torch.zeros(1, block.in_channels, block.input_side, block.input_side)
            torch.export.save(torch.export.export(network.eval(), (given,)), saved)
            return saved.getvalue()

        return {name: program(name) for name in ("small", "large")}


class OnGpuWithOnnxRuntime(OnGpu):
    @pytest.fixture
    def models(self):
        pytest.importorskip("onnx")
        from supernets.export.onnx_graph import onnx_model

        return {name: onnx_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


if HAS_GPU:

    class TestTorchGraphs(OnGpuWithTorch):
        settings: ClassVar[dict[str, object]] = {}

    class TestTorchEager(OnGpuWithTorch):
        settings: ClassVar[dict[str, object]] = {"cuda_graphs": False}

    class TestTorchFlushed(OnGpuWithTorch):
        settings: ClassVar[dict[str, object]] = {"l2_flush": True, "channels_last": True}

    class TestOnnxRuntimeCuda(OnGpuWithOnnxRuntime):
        settings: ClassVar[dict[str, object]] = {"runtime": "onnxruntime-cuda"}

    class TestOnnxRuntimeTensorRt(OnGpuWithOnnxRuntime):
        settings: ClassVar[dict[str, object]] = {"runtime": "onnxruntime-tensorrt"}

else:

    @pytest.mark.skip(reason="no NVIDIA GPU")
    def test_a_gpu_keeps_the_contract_of_agents_by_every_runtime():
        """Stands for the classes above where there is no GPU."""
