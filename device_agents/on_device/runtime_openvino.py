"""OpenVINO on the CPU: one stream for the lowest latency, float32 kept as it is, threads left on the cores the worker is pinned to."""

from __future__ import annotations

from functools import partial
from typing import Any

from .inputs import fixed_shape, random_input
from .runtimes import ModelFormat, Session, not_installed


class OpenVinoRuntime:
    """Runs ONNX files."""

    model_format: ModelFormat = "onnx"
    name = package = "openvino"
    delegate = "CPU"

    def __init__(self, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise not_installed("running ONNX files with OpenVINO", "openvino", "openvino", error) from error
        self._core = openvino.Core()
        self.version = str(openvino.__version__).partition("-")[0]
        # by itself OpenVINO pins anew, and on some processors computes in bfloat16
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }  # fmt: skip

    def load(self, path: str) -> Session:
        """Return the model of this file, compiled."""
        with open(path, "rb") as file:  # bytes: a path without a known ending would not be read as ONNX
            model = self._core.compile_model(self._core.read_model(file.read(), b""), self.delegate, self._settings)
        shapes = [fixed_shape(value.any_name, [int(side) for side in value.shape]) for value in model.inputs]
        dtypes = [str(value.element_type.to_dtype().name) for value in model.inputs]
        request = model.create_infer_request()
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes)):  # noqa: B905 - `strict` came with Python 3.10
            request.get_input_tensor(i).data[:] = random_input(shape, dtype)
        return Session(request.infer, partial(_infer, model), shapes, dtypes, ",".join(model.get_property("EXECUTION_DEVICES")), model)


def _infer(model: Any, batch: Any) -> Any:
    if len(model.inputs) != 1:
        raise ValueError(f"the model has {len(model.inputs)} inputs; expected one")
    return model([batch])[0]
