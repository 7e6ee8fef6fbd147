"""ONNX graphs written straight from BlockSpecs: NCHW float32, one node a primitive, the batch fixed.

Operator set 14 is the first with HardSwish, and 7 the file format (IR) it came with: whatever reads newer ones reads
these. Activations are nodes of their own, since fusing them is the runtime's work; initializers keep the weights' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec, Convolution
from supernets.export.weights import Array, checked
from supernets.walk import run_blocks

OPSET = 14
IR_VERSION = 7
PRODUCER = "elastic-latency"

_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "relu6": ("Clip", {}),
    "h_swish": ("HardSwish", {}),
    "h_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),  # the operator's own alpha is 0.2
    "sigmoid": ("Sigmoid", {}),
}


def onnx_model(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], batch: int = 1) -> bytes:
    """Return the blocks as an ONNX file, the same bytes for the same blocks and folded weights.

    Its input is "input" (batch, channels, side, side), its output "output": (batch, channels, side, side), or (batch,
    channels) after a linear block.

    Raises:
        ImportError: the package onnx is not installed.
        ValueError: the blocks make no graph, or a tensor is missing or misshapen.
    """
    onnx = _onnx()
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER, opset_import=[onnx.OperatorSetIdProto(domain="", version=OPSET)])
    model.graph.name = "blocks"
    run_blocks(blocks, "input", _OnnxOperations(onnx, model.graph, checked(blocks, weights, batch)))
    model.graph.node[-1].output[0] = "output"
    first, last = blocks[0], blocks[-1]
    output_sides = [last.output_side] * (0 if last.operator == "linear" else 2)
    for values, name, shape in (
        (model.graph.input, "input", [batch, first.in_channels, first.input_side, first.input_side]),
        (model.graph.output, "output", [batch, last.out_channels, *output_sides]),
    ):
        values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("writing ONNX graphs needs the package 'onnx'; install it with pip install 'elastic-latency[onnx]'") from error
    return onnx


class _OnnxOperations:
    """`supernets.walk.Operations` on names of values; fills `graph` in place, since copying a message copies every weight."""

    def __init__(self, onnx: Any, graph: Any, weights: Mapping[str, Array]) -> None:
        self._onnx = onnx
        self._graph = graph
        self._weights = weights
        self._constants: set[str] = set()

    def convolution(self, x: str, convolution: Convolution) -> str:
        """Conv, then its activation."""
        inputs = [x, self._weight(f"{convolution.name}.weight")]
        if f"{convolution.name}.bias" in self._weights:
            inputs.append(self._weight(f"{convolution.name}.bias"))
        size, stride = convolution.kernel_size, convolution.stride
        y = self._node("Conv", inputs, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[convolution.padding] * 4, group=convolution.groups)
        return self._activation(y, convolution.activation)

    def linear(self, x: str, convolution: Convolution) -> str:
        """Flatten, then Gemm."""
        name = convolution.name
        weight = self._constant(f"{name}.weight", self._weights[f"{name}.weight"].reshape(convolution.out_channels, convolution.in_channels))
        return self._node("Gemm", [self._node("Flatten", [x]), weight, self._weight(f"{name}.bias")], transB=1)

    def mean(self, x: str) -> str:
        """GlobalAveragePool."""
        return self._node("GlobalAveragePool", [x])

    def multiply(self, x: str, gate: str) -> str:
        """Mul, broadcast over the map."""
        return self._node("Mul", [x, gate])

    def add(self, x: str, y: str, activation: str) -> str:
        """Add, then its activation."""
        return self._activation(self._node("Add", [x, y]), activation)

    def average_pool(self, x: str, size: int) -> str:
        """AveragePool, padded after the map where the side is odd; the padding does not count."""
        return self._node("AveragePool", [x], kernel_shape=[size] * 2, strides=[size] * 2, auto_pad="SAME_UPPER")

    def max_pool(self, x: str, kernel_size: int, stride: int) -> str:
        """MaxPool, whose padding is never largest."""
        return self._node("MaxPool", [x], kernel_shape=[kernel_size] * 2, strides=[stride] * 2, pads=[kernel_size // 2] * 4)

    def _activation(self, x: str, activation: str) -> str:
        if activation == "none":
            return x
        if activation == "swish":  # no operator of its own before set 24
            return self._node("Mul", [x, self._node("Sigmoid", [x])])
        operator, attributes = _ACTIVATIONS[activation]
        inputs = [x]
        if activation == "relu6":
            inputs += [self._constant(f"relu6.{limit}", np.array(limit, np.float32)) for limit in (0, 6)]
        return self._node(operator, inputs, **attributes)

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{operator}_{len(self._graph.node)}"
        self._graph.node.append(self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Return the name of an initializer, made at its first use: blocks of one name share their tensors."""
        if name not in self._constants:
            self._constants.add(name)
            data = value.astype("<f4", copy=False).tobytes()
            self._graph.initializer.add(name=name, dims=value.shape, data_type=self._onnx.TensorProto.FLOAT, raw_data=data)
        return name
