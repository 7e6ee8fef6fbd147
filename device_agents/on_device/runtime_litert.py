"""LiteRT (TensorFlow Lite) on the CPU through XNNPACK; a model that XNNPACK does not take whole is an error, not a slower run.

Models whose inputs and outputs are int8 take and give float numbers when outputs are asked for: by the scale and zero point
that the file states.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .inputs import dequantized, fixed_shape, quantized, random_input
from .runtimes import ModelFormat, Session, not_installed


class LiteRuntime:
    """Runs TFLite files with ai_edge_litert."""

    model_format: ModelFormat = "tflite"
    name = "litert"
    package = "ai_edge_litert"
    delegate = "xnnpack"

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.version, self._interpreter_class = self._package()

    def load(self, path: str) -> Session:
        """Return the model of this file.

        Raises:
            RuntimeError: XNNPACK was not applied to it, or to a part of it only.
        """
        interpreter = self._interpreter_class(model_path=path, num_threads=self._threads)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        _require_delegate(interpreter._get_ops_details(), inputs, outputs)
        shapes = [fixed_shape(detail["name"], detail["shape_signature"].tolist()) for detail in inputs]
        dtypes = [_dtype_name(detail) for detail in inputs]
        for detail, shape, dtype in zip(inputs, shapes, dtypes):  # noqa: B905 - `strict` came with Python 3.10
            interpreter.set_tensor(detail["index"], random_input(shape, dtype))
        return Session(interpreter.invoke, partial(_infer, interpreter, inputs, outputs), shapes, dtypes, self.delegate)

    def _package(self) -> tuple[str, Any]:
        try:
            import ai_edge_litert
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise not_installed("running TFLite files", "ai-edge-litert", "litert", error) from error
        return str(ai_edge_litert.__version__), Interpreter


def _require_delegate(operations: list[dict[str, Any]], inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    # names of delegates are not given; with the default resolver XNNPACK is the only one there can be
    delegates = [operation for operation in operations if operation["op_name"] == "DELEGATE"]
    if not delegates:
        raise RuntimeError("XNNPACK took no part of the model, which would run several times slower without it")
    others = [operation for operation in operations if operation["op_name"] != "DELEGATE"]
    computed = {int(index) for operation in others for index in operation["outputs"]}
    taken, given = set(map(int, delegates[0]["inputs"])), set(map(int, delegates[0]["outputs"]))
    ends = {detail["index"] for detail in inputs} <= taken and {detail["index"] for detail in outputs} <= given
    if len(delegates) > 1 or not ends or taken & computed:  # what it takes must be inputs and constants, nothing that others compute for it
        names = sorted({str(operation["op_name"]) for operation in others})
        raise RuntimeError(f"XNNPACK took only parts of the model, and the rest would run slowly; among its operators are {', '.join(names)}")


def _dtype_name(detail: dict[str, Any]) -> str:
    import numpy as np

    return str(np.dtype(detail["dtype"]).name)


def _infer(interpreter: Any, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], batch: Any) -> Any:
    if len(inputs) != 1:
        raise ValueError(f"the model has {len(inputs)} inputs; expected one")
    quantises = _dtype_name(inputs[0]) == "int8" and batch.dtype.kind == "f"
    interpreter.set_tensor(inputs[0]["index"], quantized(batch, *inputs[0]["quantization"]) if quantises else batch)
    interpreter.invoke()
    result = interpreter.get_tensor(outputs[0]["index"])
    return dequantized(result, *outputs[0]["quantization"]) if quantises and _dtype_name(outputs[0]) == "int8" else result
