"""int8 ONNX graphs by ONNX Runtime's own static quantisation: QuantizeLinear and DequantizeLinear around every operator.

Weights are int8, symmetric, one scale an output channel; biases int32; activations uint8, with a zero point, from the least
and largest value seen (uint8 since ONNX Runtime fuses all operators of such graphs on x86 and ARM alike, int8 ones on ARM
only). What has no integer kernel, HardSwish among it, stays a float operator between the two.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec
from supernets.export.onnx_graph import onnx_model
from supernets.export.quantized_inputs import batches_of

PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # the mark of graphs that need no folding before: ours have their norms folded


def quantized_onnx_model(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], inputs_NCHW: np.ndarray[Any, Any],
                         batch: int = 1) -> bytes:  # fmt: skip
    """Return the blocks as an int8 ONNX file, its activation ranges those that the float graph has on these inputs.

    Several blocks take and give float32 under the names of `onnx_model`. One alone takes and gives uint8, since that is what
    passes between blocks of a network.

    Raises:
        ImportError: the package onnx or onnxruntime is not installed.
        ValueError: the blocks make no graph, a tensor is missing or misshapen, or the inputs do not fit.
    """
    plain = onnx_model(blocks, weights, batch)
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        message = "quantising ONNX graphs needs the package 'onnxruntime'; install it with pip install 'elastic-latency[onnx]'"
        raise ImportError(message) from error

    class Inputs(quantization.CalibrationDataReader):  # type: ignore[misc]
        """The inputs as the quantiser asks for them."""

        def __init__(self) -> None:
            self._batches = batches_of(blocks, inputs_NCHW, batch)

        def get_next(self) -> dict[str, Any] | None:
            """Return the next batch; None at the end."""
            found = next(self._batches, None)
            return None if found is None else {"input": found}

    model = onnx.load_model_from_string(plain)
    model.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
    operators = sorted({node.op_type for node in model.graph.node})
    with tempfile.TemporaryDirectory(prefix="elastic-latency-int8-") as folder:
        path = Path(folder) / "model.onnx"
        quantization.quantize_static(
            model, path, Inputs(), quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=operators, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax, extra_options={"ForceQuantizeNoInputCheck": True},
        )  # fmt: skip
        quantized = onnx.load_model(path)
    del quantized.metadata_props[:]
    if len(blocks) == 1:
        _with_integer_ends(onnx, quantized)
    serialised: bytes = quantized.SerializeToString(deterministic=True)
    return serialised


def _with_integer_ends(onnx: Any, model: Any) -> None:
    """Take the first quantisation and the last dequantisation out of the graph, so that uint8 goes in and out."""
    graph = model.graph
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "input")
    last = next(node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] == "output")
    renamed = {first.output[0]: "input", last.input[0]: "output"}
    del graph.value_info[:]
    graph.node.remove(first)
    graph.node.remove(last)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
