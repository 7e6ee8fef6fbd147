"""PyTorch on an NVIDIA GPU: a network captured once as a CUDA graph and replayed, or launched operation by operation.

TF32 is off, and cuDNN chooses its algorithms by its own rules: measuring them would choose others in each process.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from .cuda_timing import CudaTimer
from .gpu_state import GpuStateReader
from .inputs import fixed_shape, random_input
from .nvml import Gpu, GpuNotThere, chosen_gpu
from .runtime_torch import require_plain_program
from .runtimes import ModelFormat, RuntimeNotInstalled, Session, not_installed

CAPTURE_WARMUP = 3  # runs before a capture: libraries set themselves up in the first ones
FLUSH_FACTOR = 2  # times the L2 cache are written over before each run
UNKNOWN_L2_BYTES = 128 << 20  # as much as triton takes a GPU to have at most
DEVICE = "cuda"


class TorchCudaRuntime:
    """Runs exported programs of one input on the GPU, times them by its own clock, and reads its state.

    `delegate` says how: "cuda-graph" or "eager", and "+l2-flush" and "+channels-last" where they are on.

    Raises (constructor):
        RuntimeNotInstalled: PyTorch is not there, or not built for CUDA; or nvidia-ml-py is not there.
        GpuNotThere: no driver answers, or CUDA finds no GPU.
    """

    model_format: ModelFormat = "torch"
    name = "torch-cuda"
    package = "torch"
    precisions = ("float32", "float16")

    def __init__(self, threads: int, *, gpu: str = "", precision: str = "float32", cuda_graphs: bool = True, l2_flush: bool = False,
                 channels_last: bool = False) -> None:  # fmt: skip
        chosen = chosen_gpu(gpu)
        self._torch = torch = _torch()
        self._gpu = _watched(torch, chosen)
        if not torch.cuda.is_available():
            raise GpuNotThere(f"PyTorch cannot use GPU {chosen!r} ({_reason(torch)}); is the driver new enough for CUDA {torch.version.cuda}?")
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._options: dict[str, Any] = {"device": DEVICE, "dtype": getattr(torch, precision)}
        if channels_last:
            self._options["memory_format"] = torch.channels_last
        self._graphs = cuda_graphs
        self._pool = torch.cuda.graph_pool_handle() if cuda_graphs else None  # one for all: no two graphs run at a time, and no output is kept
        self._flush = _flusher(torch) if l2_flush else None
        self.version = f"{torch.__version__} CUDA {torch.version.cuda}"
        parts = ["cuda-graph" if cuda_graphs else "eager", *["l2-flush"] * l2_flush, *["channels-last"] * channels_last]
        self.delegate = "+".join(parts)

    @property
    def description(self) -> dict[str, Any]:
        """What else may explain a figure; `cpu_model` is the GPU's name, since that is the processor here."""
        cudnn = self._torch.backends.cudnn
        return {"cpu_model": self._torch.cuda.get_device_name(0), **({} if self._gpu is None else self._gpu.describe()),
                "cudnn_version": cudnn.version(), "tf32": cudnn.allow_tf32, "cudnn_benchmark": cudnn.benchmark}  # fmt: skip

    def state_reader(self, cores: list[int], clock_limits_khz: list[int | None] | None = None) -> GpuStateReader:
        """Return the reader of the GPU's state, which the timed loop tells of its clock under load."""
        state = GpuStateReader(cores, self._gpu, clock_limits_khz)
        self._timer = CudaTimer(self._torch.cuda, state, hold=self._graphs, flush=self._flush)
        return state

    def timed_cycles(self, runs: list[Callable[[], object]], cycles: int, warmup_cycles: int, min_call_ns: int = 0) -> tuple[list[list[int]], int]:
        """Return the nanoseconds of every call by the GPU's clock; see `timed_loop.timed_cycles`."""
        return self._timer.timed_cycles(runs, cycles, warmup_cycles, min_call_ns)

    def load(self, path: str) -> Session:
        """Return the program of this file, on the GPU and captured there.

        Raises:
            ValueError: the file holds more than tensors and a graph, or does not take one input of floating-point numbers.
        """
        torch = self._torch
        module, shape, dtype = network(torch, path, self._options)
        given = torch.from_numpy(random_input(shape, dtype)).to(**self._options)
        run = partial(module, given)
        if self._graphs:
            run = captured(torch, run, self._pool).replay
        infer = partial(outputs_of, torch, module, self._options)
        return Session(_without_gradients(torch, run), infer, [shape], [dtype], self.delegate, given)


def network(torch: Any, path: str, options: dict[str, Any]) -> tuple[Any, list[int], str]:
    """Return the exported program of a file, moved and converted as `options` of `Module.to` say, and its input's shape and type.

    Raises:
        ValueError: the file holds more than tensors and a graph, or does not take one input of floating-point numbers.
    """
    with open(path, "rb") as file:
        content = file.read()
    require_plain_program(torch, content)
    program = torch.export.load(io.BytesIO(content))
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    dtypes = [str(value.dtype).rpartition(".")[2] for value in values]
    if len(values) != 1 or not values[0].dtype.is_floating_point:
        raise ValueError(f"the model takes inputs of {', '.join(dtypes) or 'nothing'}; on the GPU networks of one floating-point input are run")
    return program.module().to(**options), fixed_shape(names[0], list(values[0].shape)), dtypes[0]


def outputs_of(torch: Any, module: Any, options: dict[str, Any], batch: Any) -> Any:
    """Return what a network makes of a batch, as a float32 array."""
    with torch.inference_mode():
        return module(torch.from_numpy(batch).to(**options)).float().contiguous().cpu().numpy()


def captured(torch: Any, run: Callable[[], object], pool: Any) -> Any:
    """Return the CUDA graph of a run; capturing wants one that ran before, on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(CAPTURE_WARMUP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            run()
    return graph


def _without_gradients(torch: Any, run: Callable[[], object]) -> Callable[[], object]:
    no_gradients = torch.inference_mode()

    def call() -> object:
        with no_gradients:
            return run()

    return call


def _watched(torch: Any, chosen: str) -> Gpu | None:
    """Return the GPU as NVML sees it; None on a board whose driver lacks NVML: its clock is unknown then, and no visit is judged by it."""
    try:
        return Gpu(chosen)
    except GpuNotThere:
        if torch.cuda.is_available():
            return None
        raise


def _flusher(torch: Any) -> Callable[[], object]:
    l2_bytes = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or UNKNOWN_L2_BYTES
    flush: Callable[[], object] = torch.empty(FLUSH_FACTOR * l2_bytes, dtype=torch.int8, device=DEVICE).zero_
    return flush


def _reason(torch: Any) -> str:
    """Return in one line why CUDA does not start."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0]
    return "it gives no reason"


def _torch() -> Any:
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # for the libraries under it too
    try:
        import torch
    except ImportError as error:
        raise not_installed("running networks on an NVIDIA GPU", "torch", "train", error) from error
    if torch.version.cuda is None:
        raise RuntimeNotInstalled(
            f"running networks on an NVIDIA GPU needs PyTorch built for CUDA, and the one here is {torch.__version__}; "
            "install a build for CUDA, as pytorch.org/get-started says"
        )
    return torch
