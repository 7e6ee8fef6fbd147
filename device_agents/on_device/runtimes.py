"""Inference runtimes by name. Each is one module with a class that takes the number of threads and loads model files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

RUNTIMES = {
    "onnxruntime": ".runtime_onnxruntime:OnnxRuntime",
    "litert": ".runtime_litert:LiteRuntime",
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

    Raises (constructor):
        RuntimeNotInstalled: the package is not there.
    """

    model_format: Literal["onnx", "tflite"]
    name: str
    package: str
    version: str
    delegate: str

    def __init__(self, threads: int) -> None: ...

    def load(self, path: str) -> Session:
        """Return the model of this file, ready to run."""


def runtime_class(name: str) -> type[Runtime]:
    """Return the class of a runtime; its package is not imported yet.

    Raises:
        ValueError: no runtime has that name.
    """
    known = {**RUNTIMES, **UNLISTED}
    if name not in known:
        raise ValueError(f"unknown runtime {name!r}; known runtimes: {', '.join(RUNTIMES)}")
    module, _, class_name = known[name].partition(":")
    found: type[Runtime] = getattr(importlib.import_module(module, __package__), class_name)
    return found


def not_installed(feature: str, package: str, extra: str, error: ImportError) -> RuntimeNotInstalled:
    """Return the error for a package that cannot be imported."""
    return RuntimeNotInstalled(
        f"{feature} needs the package {package!r}, which {sys.executable} cannot import ({error}); "
        f"install it there with pip install {package} or pip install 'elastic-latency[{extra}]'"
    )
