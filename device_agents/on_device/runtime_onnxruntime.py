"""ONNX Runtime on the CPU: sequential, all graph optimisations, threads that do not spin, arenas as they come."""

from __future__ import annotations

from functools import partial
from typing import Any

from .inputs import fixed_shape, random_input
from .runtimes import ModelFormat, Session, not_installed

PROVIDER = "CPUExecutionProvider"
DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int8)": "int8",
    "tensor(uint8)": "uint8", "tensor(int32)": "int32", "tensor(int64)": "int64",
}  # fmt: skip


class OnnxRuntime:
    """Runs ONNX files."""

    model_format: ModelFormat = "onnx"
    name = package = "onnxruntime"
    delegate = PROVIDER

    def __init__(self, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise not_installed("running ONNX files", "onnxruntime", "onnx", error) from error
        self._runtime = onnxruntime
        self._threads = threads
        self.version = str(onnxruntime.__version__)

    def load(self, path: str) -> Session:
        """Return the model of this file, its inputs and outputs bound to fixed memory: that costs the least around a run."""
        session = self._runtime.InferenceSession(path, self._options(), providers=[PROVIDER])
        session.disable_fallback()
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shapes = [fixed_shape(value.name, value.shape) for value in inputs]
        dtypes = [_dtype(value) for value in inputs]
        binding = session.io_binding()
        kept = [self._runtime.OrtValue.ortvalue_from_numpy(random_input(*shape_dtype)) for shape_dtype in zip(shapes, dtypes)]  # noqa: B905
        for value, ort_value in zip(inputs, kept):  # noqa: B905 - `strict` came with Python 3.10
            binding.bind_ortvalue_input(value.name, ort_value)
        for value in outputs:
            kept.append(self._runtime.OrtValue.ortvalue_from_shape_and_type(fixed_shape(value.name, value.shape), _numpy_type(value)))
            binding.bind_ortvalue_output(value.name, kept[-1])
        infer = partial(self._infer, session, [value.name for value in inputs])
        return Session(partial(session.run_with_iobinding, binding), infer, shapes, dtypes, ",".join(session.get_providers()), kept)

    def _options(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options

    @staticmethod
    def _infer(session: Any, names: list[str], batch: Any) -> Any:
        if len(names) != 1:
            raise ValueError(f"the model has the inputs {', '.join(names)}; expected one")
        return session.run(None, {names[0]: batch})[0]


def _dtype(value: Any) -> str:
    if value.type not in DTYPES:
        raise ValueError(f"{value.name!r} of the model has the type {value.type}; expected one of {', '.join(DTYPES)}")
    return DTYPES[value.type]


def _numpy_type(value: Any) -> Any:
    import numpy as np

    return np.dtype(_dtype(value)).type
