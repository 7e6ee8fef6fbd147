"""Full-integer TFLite flatbuffers: the float graph's operators on int8, in a form that XNNPACK takes whole.

Weights are symmetric int8 with a scale an output channel, biases int32, activations int8 with a zero point, from the least
and largest value that the float graph has on given inputs. What XNNPACK takes in float only is spelled out: HARD_SWISH is ADD
3 (fused RELU6), MUL 1/6, MUL; AVERAGE_POOL_2D is DEPTHWISE_CONV_2D, and MUL where windows lie partly beside the map. The file
takes and gives int8; its own scales say what those stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from supernets.blocks import BlockSpec
from supernets.export.quantized_inputs import batches_of
from supernets.export.tflite_graph import Buffer, TfliteOperations, imported_schema, packed, write
from supernets.export.weights import checked

Exact: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Range: TypeAlias = tuple[float, float]
Scale: TypeAlias = tuple[float, int]  # of a map, and its zero point

LEAST, LARGEST = -128, 127
BIAS_LIMIT = 1 << 30  # half of what int32 holds; the sums that are added to a bias need the rest
LOGISTIC_SCALE = (1 / 256, LEAST)  # which the format demands
KEEPS_SCALE = ("PAD", "MAX_POOL_2D")  # whose result must have their input's
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # of the weight
# the first version of each operator that takes int8; those that take it from the first on are not named
VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "MUL": 2, "MEAN": 2, "PAD": 2, "MAX_POOL_2D": 2,
}  # fmt: skip


def quantized_tflite_model(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], inputs_NCHW: np.ndarray[Any, Any],
                           batch: int = 1) -> bytes:  # fmt: skip
    """Return the blocks as an int8 TFLite file, its activation ranges those that the float graph has on these inputs.

    Names and shapes are those of `tflite_model`.

    Raises:
        ImportError: the package ai-edge-litert is not installed.
        ValueError: the blocks make no graph, a tensor is missing or misshapen, or the inputs do not fit.
    """
    graph = _SpelledOut(imported_schema(), checked(blocks, weights, batch))
    write(graph, blocks, batch)
    ranges = _ranges(packed(graph), [inputs.transpose(0, 2, 3, 1) for inputs in batches_of(blocks, inputs_NCHW, batch)])
    _Integers(graph, ranges).rewrite()
    return packed(graph)


class _SpelledOut(TfliteOperations):
    """Operations of which XNNPACK takes an int8 form."""

    def _activation(self, x: int, activation: str) -> int:
        if activation == "h_swish":
            return self.multiply(x, super()._activation(x, "h_sigmoid"))
        return super()._activation(x, activation)

    def average_pool(self, x: int, size: int) -> int:
        """DEPTHWISE_CONV_2D of equal weights; where the last windows lie partly beside the map, MUL by what their zeros take away."""
        schema = self.schema
        batch, side, _, channels = self._shape(x)
        pooled = -(-side // size)
        weight = self._constant(f"average.{size}.{channels}", np.full((1, size, size, channels), 1 / size**2, np.float32))
        bias = self._constant(f"zeros.{channels}", np.zeros(channels, np.float32))
        options = schema.DepthwiseConv2DOptionsT(padding=schema.Padding.SAME, strideH=size, strideW=size, depthMultiplier=1)
        shape = (batch, pooled, pooled, channels)
        y = self._operator("DEPTHWISE_CONV_2D", [x, weight, bias], shape, options)
        if side % size == 0:
            return y
        share = np.ones(pooled, np.float32)
        share[-1] = size / (side % size)
        factors = self._constant(f"average.{size}.{side}", (share[:, None] * share)[None, :, :, None])
        return self._operator("MUL", [y, factors], shape, schema.MulOptionsT())


def _ranges(model: bytes, batches_NHWC: Sequence[np.ndarray[Any, Any]]) -> dict[int, Range]:
    """Return tensor index → least and largest value of every tensor that the float model computes, its input among them."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate would not show what lies between its ends
    runner = Interpreter(model_content=model, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True, num_threads=1)
    runner.allocate_tensors()
    computed = [index for operation in runner._get_ops_details() for index in operation["outputs"]]
    (source,) = runner.get_input_details()
    ranges: dict[int, Range] = {}
    for batch in batches_NHWC:
        runner.set_tensor(source["index"], np.ascontiguousarray(batch))
        runner.invoke()
        for index in map(int, (source["index"], *computed)):
            values = runner.get_tensor(index)
            least, largest = ranges.get(index, (0.0, 0.0))  # zero is always among them: what pads must be exact
            ranges[index] = (min(least, float(values.min())), max(largest, float(values.max())))
    return ranges


class _Integers:
    """Turns the float tensors of a graph into integer ones, in place."""

    def __init__(self, graph: TfliteOperations, ranges: Mapping[int, Range]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._maps: dict[int, Scale] = {}
        self._floats = {index: self._values(tensor) for index, tensor in enumerate(graph.tensors) if self._is_float_constant(tensor)}
        self._written: dict[tuple[int, bytes], int] = {}

    def rewrite(self) -> None:
        """Rewrite every tensor and operator."""
        graph = self._graph
        names = {code: name for name, code in vars(graph.schema.BuiltinOperator).items() if not name.startswith("_")}
        for code in graph.operator_codes:
            code.version = max(code.version, VERSIONS.get(names[code.builtinCode], 1))
        self._set_map(graph.source, _scale(*self._ranges[graph.source]))
        for operator in graph.operators:
            name, (output,) = names[graph.operator_codes[operator.opcodeIndex].builtinCode], operator.outputs
            if name in CHANNEL_AXIS:
                operator.inputs = self._weighted(operator.inputs, CHANNEL_AXIS[name])
            else:
                operator.inputs = [self._scalar(index) if index in self._floats else index for index in operator.inputs]
            if name in KEEPS_SCALE:
                self._set_map(output, self._maps[operator.inputs[0]])
            else:
                self._set_map(output, LOGISTIC_SCALE if name == "LOGISTIC" else _scale(*self._ranges[output]))

    def _weighted(self, inputs: Sequence[int], axis: int) -> list[int]:
        """Return the inputs of an operator with a weight and a bias: both as integers, channel by channel."""
        source, weight, bias = inputs
        values, offsets = self._floats[weight], self._floats[bias]
        input_scale = self._maps[source][0]
        largest = np.abs(values).max(axis=tuple(other for other in range(values.ndim) if other != axis))
        # a channel of tiny weights under a large bias gets a coarser scale, which its weights do not need and its bias does
        scales = np.maximum(largest / LARGEST, np.abs(offsets) / (input_scale * BIAS_LIMIT)).astype(np.float32)
        scales[scales == 0] = 1
        shape = [-1 if other == axis else 1 for other in range(values.ndim)]
        exact = scales.astype(np.float64)
        integers = np.clip(np.rint(values / exact.reshape(shape)), -LARGEST, LARGEST).astype(np.int8)
        biases = np.rint(offsets / (exact * input_scale)).astype(np.int32)
        bias_scales = (exact * input_scale).astype(np.float32)
        return [source, self._constant(weight, integers, scales, axis), self._constant(bias, biases, bias_scales, 0)]

    def _scalar(self, index: int) -> int:
        """Return the index of a constant as int8 of one scale, in which the largest value's halves are exact too."""
        values = self._floats[index]
        scale = np.array([np.abs(values).max() / 64], np.float32)
        return self._constant(index, np.rint(values / scale[0].astype(np.float64)).astype(np.int8), scale, 0)

    def _constant(self, index: int, integers: np.ndarray[Any, Any], scales: np.ndarray[Any, Any], axis: int) -> int:
        """Return the index of an integer tensor in place of a float one; another use under other scales gets one of its own."""
        schema, tensors = self._graph.schema, self._graph.tensors
        key = (index, scales.tobytes())
        if key not in self._written:
            content = Buffer(schema, np.ascontiguousarray(integers, integers.dtype.newbyteorder("<")).reshape(-1).view(np.uint8))
            if any(known == index for known, _ in self._written):
                self._graph.buffers.append(content)
                self._written[key] = len(tensors)
                tensors.append(schema.TensorT(name=f"{tensors[index].name}.{len(tensors)}", shape=tensors[index].shape))
                tensors[-1].buffer = len(self._graph.buffers) - 1
            else:
                self._graph.buffers[tensors[index].buffer] = content
                self._written[key] = index
            written = tensors[self._written[key]]
            written.type = schema.TensorType.INT8 if integers.dtype == np.int8 else schema.TensorType.INT32
            written.quantization = self._quantization(scales, np.zeros(len(scales), np.int64), axis)
        return self._written[key]

    def _set_map(self, index: int, scale: Scale) -> None:
        tensor = self._graph.tensors[index]
        tensor.type = self._graph.schema.TensorType.INT8
        tensor.quantization = self._quantization(np.array([scale[0]], np.float32), np.array([scale[1]], np.int64), 0)
        self._maps[index] = scale

    def _quantization(self, scales: np.ndarray[Any, Any], zero_points: np.ndarray[Any, Any], axis: int) -> Any:
        return self._graph.schema.QuantizationParametersT(scale=scales, zeroPoint=zero_points, quantizedDimension=axis)

    def _is_float_constant(self, tensor: Any) -> bool:
        return bool(tensor.buffer) and tensor.type == self._graph.schema.TensorType.FLOAT32

    def _values(self, tensor: Any) -> Exact:
        stored: np.ndarray[Any, Any] = self._graph.buffers[tensor.buffer].data.view("<f4")
        return stored.astype(np.float64).reshape(tensor.shape)


def _scale(least: float, largest: float) -> Scale:
    """Return the scale and zero point by which int8 covers the range; one that is nothing but zero gets the range to 1."""
    scale = float(np.float32(((largest - least) or 1.0) / (LARGEST - LEAST)))
    return scale, int(np.clip(round(LEAST - least / scale), LEAST, LARGEST))
