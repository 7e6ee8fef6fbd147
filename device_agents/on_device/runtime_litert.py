"""LiteRT (TensorFlow Lite) on the CPU through XNNPACK; a model that XNNPACK does not take is an error, not a slower run."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any, Literal

from .inputs import fixed_shape, random_input
from .runtimes import Session, not_installed


class LiteRuntime:
    """Runs TFLite files with ai_edge_litert, or with tflite_runtime where only that is installed; `name` tells which."""

    model_format: Literal["onnx", "tflite"] = "tflite"
    delegate = "xnnpack"

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.name, self.version, self._interpreter_class = _package()
        self.package = self._interpreter_class.__module__.partition(".")[0]

    def load(self, path: str) -> Session:
        """Return the model of this file.

        Raises:
            RuntimeError: XNNPACK was not applied to it.
        """
        interpreter = self._interpreter_class(model_path=path, num_threads=self._threads)
        interpreter.allocate_tensors()
        # names of delegates are not given; with the default resolver XNNPACK is the only one there can be
        if not any(operation["op_name"] == "DELEGATE" for operation in interpreter._get_ops_details()):
            raise RuntimeError("XNNPACK took no part of the model, which would run several times slower without it")
        details = interpreter.get_input_details()
        shapes = [fixed_shape(detail["name"], detail["shape_signature"].tolist()) for detail in details]
        dtypes = [_dtype_name(detail) for detail in details]
        for detail, shape, dtype in zip(details, shapes, dtypes):  # noqa: B905 - `strict` came with Python 3.10
            interpreter.set_tensor(detail["index"], random_input(shape, dtype))
        return Session(interpreter.invoke, partial(_infer, interpreter, details), shapes, dtypes, self.delegate)


def _package() -> tuple[str, str, Any]:
    try:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return "litert", str(ai_edge_litert.__version__), Interpreter
    except ImportError as error:
        if getattr(error, "name", None) != "ai_edge_litert":
            raise not_installed("running TFLite files", "ai-edge-litert", "litert", error) from error
        first_error = error
    try:
        import numpy

        tflite_runtime = importlib.import_module("tflite_runtime")
        old_interpreter = importlib.import_module("tflite_runtime.interpreter").Interpreter
    except ImportError:
        raise not_installed("running TFLite files", "ai-edge-litert", "litert", first_error) from first_error
    if int(numpy.__version__.partition(".")[0]) >= 2:
        old, new = tflite_runtime.__version__, numpy.__version__
        raise RuntimeError(f"tflite_runtime {old} does not run with numpy {new}; install ai-edge-litert instead, or numpy older than 2")
    return "tflite_runtime", str(tflite_runtime.__version__), old_interpreter


def _dtype_name(detail: dict[str, Any]) -> str:
    import numpy as np

    return str(np.dtype(detail["dtype"]).name)


def _infer(interpreter: Any, details: list[dict[str, Any]], batch: Any) -> Any:
    if len(details) != 1:
        raise ValueError(f"the model has {len(details)} inputs; expected one")
    interpreter.set_tensor(details[0]["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
