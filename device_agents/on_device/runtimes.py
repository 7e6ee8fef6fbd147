"""Inference runtimes by name. Each is one module with a class that takes the number of threads and loads model files.

Further ones come through the entry-point group `elastic_latency.runtimes`: name → class of the `Runtime` protocol.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from .plug_ins import plug_ins

ModelFormat = Literal["onnx", "tflite", "torch"]
RUNTIMES = {
    "onnxruntime": ".runtime_onnxruntime:OnnxRuntime",
    "litert": ".runtime_litert:LiteRuntime",
    "tflite-runtime": ".runtime_tflite:TfliteRuntime",
    "torch": ".runtime_torch:TorchRuntime",
    "openvino": ".runtime_openvino:OpenVinoRuntime",
    "torch-cuda": ".runtime_torch_cuda:TorchCudaRuntime",
    "onnxruntime-cuda": ".runtime_onnxruntime_cuda:OnnxRuntimeCuda",
    "onnxruntime-tensorrt": ".runtime_onnxruntime_cuda:OnnxRuntimeTensorRt",
}
UNLISTED = {"echo": ".runtime_echo:EchoRuntime"}  # no inference: for the project's own checks


class RuntimeNotInstalled(ImportError):
    """The runtime's package is not there, or cannot be imported."""


@dataclass(frozen=True)
class Session:
    """A loaded model: `run()` does one run on fixed random inputs and is what gets timed; `infer(batch)` returns the first output.

    Shapes are those of the inputs, in order; `delegate` is what the runtime applied to this model; `kept` is memory that
    the runtime only points at.
    """

    run: Callable[[], object]
    infer: Callable[[Any], Any]
    input_shapes: list[list[int]]
    input_dtypes: list[str]
    delegate: str
    kept: object = None


class Runtime(Protocol):
    """What each runtime's class offers; `name`, `version` and `delegate` tell what is really in use, `package` where its code is.

    One that makes other precisions of float32 files has `precisions`, and is told which by a keyword `precision` of its constructor.
    One that runs on another processor than the CPU may also have `state_reader(cores, clock_limits_khz)`, a StateReader of that,
    `timed_cycles` as in `timed_loop` by a clock of that, and `description`, which wins over `system_state.describe`. Further
    keywords of the constructor are its options.

    Raises (constructor):
        RuntimeNotInstalled: the package is not there.
    """

    model_format: ModelFormat
    name: str
    package: str
    version: str
    delegate: str

    def __init__(self, threads: int) -> None: ...

    def load(self, path: str) -> Session:
        """Return the model of this file, ready to run."""


def runtime_class(name: str) -> type[Runtime]:
    """Return the class of a runtime; its package is not imported yet. No plug-in takes a built-in runtime's name.

    Raises:
        ValueError: no runtime has that name, or a plug-in's class cannot be imported or takes models of no known format.
    """
    built_in = {**RUNTIMES, **UNLISTED}
    if name in built_in:
        return _imported(built_in[name])
    further = plug_ins()
    if name not in further:
        raise ValueError(f"unknown runtime {name!r}; known runtimes: {', '.join([*RUNTIMES, *sorted(set(further) - set(built_in))])}")
    try:
        found = _imported(further[name])
    except (ImportError, AttributeError) as error:
        raise ValueError(f"runtime {name!r} is a plug-in whose class {further[name]!r} cannot be imported: {error}") from error
    if getattr(found, "model_format", None) not in get_args(ModelFormat):
        formats = ", ".join(get_args(ModelFormat))
        raise ValueError(f"runtime {name!r} is a plug-in whose model_format is {getattr(found, 'model_format', None)!r}; expected one of {formats}")
    return found


def _imported(target: str) -> type[Runtime]:
    module, _, class_name = target.partition(":")
    found: type[Runtime] = getattr(importlib.import_module(module, __package__), class_name)
    return found


def not_installed(feature: str, package: str, extra: str | None, error: ImportError, beside: str = "") -> RuntimeNotInstalled:
    """Return the error for a package that cannot be imported.

    `extra` is this project's extra that brings it, if one does; `beside` is what pip must be told with it.
    """
    ours = f" or pip install 'elastic-latency[{extra}]'" if extra else ""
    return RuntimeNotInstalled(
        f"{feature} needs the package {package!r}, which {sys.executable} cannot import ({error}); install it there with pip install "
        f"{package}{beside}{ours}"
    )
