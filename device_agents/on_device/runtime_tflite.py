"""tflite_runtime, the package that came before LiteRT's and stayed on some devices; last released in 2023, and not for numpy 2."""

from __future__ import annotations

import importlib
from typing import Any

from .runtime_litert import LiteRuntime
from .runtimes import not_installed


class TfliteRuntime(LiteRuntime):
    """Runs TFLite files with tflite_runtime.

    Raises (constructor):
        RuntimeError: numpy is of a version that tflite_runtime imports and cannot use.
    """

    name = "tflite-runtime"
    package = "tflite_runtime"

    def _package(self) -> tuple[str, Any]:
        import numpy

        try:
            package = importlib.import_module("tflite_runtime")
            interpreter = importlib.import_module("tflite_runtime.interpreter").Interpreter
        except ImportError as error:
            raise not_installed("running TFLite files with tflite-runtime", "tflite-runtime", None, error, " 'numpy<2'") from error
        if int(numpy.__version__.partition(".")[0]) >= 2:
            old, new = package.__version__, numpy.__version__
            raise RuntimeError(f"tflite_runtime {old} does not run with numpy {new}; use the runtime litert instead, or numpy older than 2")
        return str(package.__version__), interpreter
