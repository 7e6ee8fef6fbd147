"""ONNX Runtime on an NVIDIA GPU, by CUDA or TensorRT; a node that goes to the CPU, or all of them, is an error.

Inputs and outputs stay in the GPU's memory, so that no transfer is timed. A run ends when the GPU has finished, and is
timed by the host's clock: what is seen is what a program waits for, launching included. TF32 is off.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .gpu_state import GpuStateReader
from .inputs import fixed_shape, random_input
from .nvml import Gpu, chosen_gpu
from .runtime_onnxruntime import DTYPES
from .runtimes import ModelFormat, RuntimeNotInstalled, Session, not_installed
from .timed_loop import timed_cycles

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
MEMORY = "cuda"
WAKING_CYCLES = 10


class OnnxRuntimeCuda:
    """Runs ONNX files by the CUDA provider; with `cuda_graphs` a run is captured once and replayed. `engines` is a folder to keep
    TensorRT's engines in.

    Raises (constructor):
        RuntimeNotInstalled: ONNX Runtime is not there, or was built without the provider; or nvidia-ml-py is not there.
        GpuNotThere: no driver answers, or it knows no such GPU.
    """

    model_format: ModelFormat = "onnx"
    name = "onnxruntime-cuda"
    package = "onnxruntime"
    provider = CUDA
    precisions: tuple[str, ...] = ("float32",)

    def __init__(self, threads: int, *, gpu: str = "", precision: str = "float32", cuda_graphs: bool = True, engines: str = "") -> None:
        chosen = chosen_gpu(gpu)
        self._runtime = _onnxruntime(self.provider)
        self._gpu = Gpu(chosen)
        self._threads, self._precision, self._graphs, self._engines = threads, precision, cuda_graphs, engines
        self.version = str(self._runtime.__version__)
        self.delegate = self.provider + ("+cuda-graph" if cuda_graphs else "")

    @property
    def description(self) -> dict[str, Any]:
        """What else may explain a figure; `cpu_model` is the GPU's name, since that is the processor here."""
        return {"cpu_model": self._gpu.name, **self._gpu.describe(), "tf32": False}

    def state_reader(self, cores: list[int], clock_limits_khz: list[int | None] | None = None) -> GpuStateReader:
        """Return the reader of the GPU's state, which the timed loop tells of its clock under load."""
        self._state = GpuStateReader(cores, self._gpu, clock_limits_khz)
        return self._state

    def timed_cycles(self, runs: list[Callable[[], object]], cycles: int, warmup_cycles: int, min_call_ns: int = 0) -> tuple[list[list[int]], int]:
        """Return the nanoseconds of every call, each from its launch until the GPU has finished; see `timed_loop.timed_cycles`."""

        def work() -> None:
            for run in runs * WAKING_CYCLES:
                run()

        work()
        self._state.wake(work)
        self._state.note_load()
        found = timed_cycles(runs, cycles, warmup_cycles, min_call_ns)
        self._state.note_load()
        return found

    def load(self, path: str) -> Session:
        """Return the model of this file, its inputs and outputs bound to memory of the GPU.

        Raises:
            RuntimeError: the provider does not take it, or not all of its nodes.
        """
        session = session_on(self._runtime, path, self.provider, self.provider_options(), self._threads)
        return bound(self._runtime, session, MEMORY, self.delegate)

    def provider_options(self) -> dict[str, str]:
        """Return the options of the provider."""
        return {"device_id": "0", "use_tf32": "0", "enable_cuda_graph": str(int(self._graphs))}


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """Runs ONNX files by the TensorRT provider, which makes an engine of each when it loads it: that takes seconds to minutes."""

    name = "onnxruntime-tensorrt"
    provider = TENSORRT
    precisions = ("float32", "float16")

    def provider_options(self) -> dict[str, str]:
        """Return the options of the provider; float16 is TensorRT's to make of a float32 file, layer by layer as it finds faster."""
        switches = {
            "trt_cuda_graph_enable": self._graphs,
            "trt_fp16_enable": self._precision == "float16",
            "trt_engine_cache_enable": bool(self._engines),
        }
        folder = {"trt_engine_cache_path": self._engines} if self._engines else {}
        return {"device_id": "0", **{name: str(on) for name, on in switches.items()}, **folder}  # this provider takes no "1" for "True"


def session_on(runtime: Any, path: str, provider: str, provider_options: Mapping[str, str], threads: int) -> Any:
    """Return a session that has every node of the model on this provider.

    Raises:
        RuntimeError: it has not; the text says which nodes run where.
    """
    try:
        session = _session(runtime, path, provider, provider_options, threads, strict=True)
    except Exception as error:
        if "CPU EP" not in str(error):
            raise
        loose = _session(runtime, path, provider, provider_options, threads, strict=False)
        raise RuntimeError(f"{provider} does not take all nodes of the model, and none may run elsewhere: {_elsewhere(loose, provider)}") from error
    session.disable_fallback()
    if session.get_providers()[:1] != [provider]:
        raise RuntimeError(f"{provider} was asked for, and the session has {', '.join(session.get_providers())}; what it printed tells why")
    elsewhere = _elsewhere(session, provider)
    if elsewhere:
        raise RuntimeError(f"{provider} does not take all nodes of the model, and none may run elsewhere: {elsewhere}")
    return session


def _session(runtime: Any, path: str, provider: str, provider_options: Mapping[str, str], threads: int, strict: bool) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(strict)))
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # versions that do not know it ignore it
    return runtime.InferenceSession(path, options, providers=[(provider, dict(provider_options))])


def _elsewhere(session: Any, provider: str) -> str:
    """Return how many nodes of which kinds are on other providers; nothing where none is, or this version does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ""
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != provider]
    counts = Counter((node.op_type, part.ep_name) for part in parts for node in part.get_nodes())
    return ", ".join(f"{count} {operator} on {other}" for (operator, other), count in counts.items())


def bound(runtime: Any, session: Any, memory: str, delegate: str) -> Session:
    """Return a session whose inputs and outputs stay in this memory, "cuda" or "cpu"."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shapes = [fixed_shape(value.name, value.shape) for value in inputs]
    dtypes = [_dtype(value) for value in inputs]
    make = runtime.OrtValue
    given = [make.ortvalue_from_numpy(random_input(*of_input), memory, 0) for of_input in zip(shapes, dtypes)]  # noqa: B905
    results = [make.ortvalue_from_shape_and_type(fixed_shape(value.name, value.shape), _numpy_type(value), memory, 0) for value in outputs]
    binding = session.io_binding()
    for value, ort_value in zip(inputs, given):  # noqa: B905 - `strict` came with Python 3.10
        binding.bind_ortvalue_input(value.name, ort_value)
    for value, ort_value in zip(outputs, results):  # noqa: B905
        binding.bind_ortvalue_output(value.name, ort_value)
    infer = partial(_infer, session, binding, given, results)
    return Session(partial(_run, session, binding), infer, shapes, dtypes, delegate, [given, results])


def _run(session: Any, binding: Any) -> None:
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _infer(session: Any, binding: Any, given: list[Any], results: list[Any], batch: Any) -> Any:
    if len(given) != 1:
        raise ValueError(f"the model has {len(given)} inputs; expected one")
    given[0].update_inplace(batch)
    _run(session, binding)
    return results[0].numpy()


def _dtype(value: Any) -> str:
    if value.type not in DTYPES:
        raise ValueError(f"{value.name!r} of the model has the type {value.type}; expected one of {', '.join(DTYPES)}")
    return DTYPES[value.type]


def _numpy_type(value: Any) -> Any:
    import numpy as np

    return np.dtype(_dtype(value)).type


def _onnxruntime(provider: str) -> Any:
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed("running ONNX files on an NVIDIA GPU", "onnxruntime-gpu", None, error) from error
    built_in = onnxruntime.get_available_providers()
    if provider not in built_in:
        raise RuntimeNotInstalled(
            f"running ONNX files on an NVIDIA GPU needs ONNX Runtime built with {provider}, and the one here ({onnxruntime.__version__}) has only "
            f"{', '.join(built_in)}; install onnxruntime-gpu in place of onnxruntime"
        )
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip put them
    return onnxruntime
