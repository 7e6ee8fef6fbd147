"""TFLite flatbuffers written straight from BlockSpecs: NHWC float32, the batch fixed, through the schema's object classes.

Decided here, so that the XNNPACK delegate takes a graph as one partition and LiteRT's results are torch's:
RELU and RELU6 are fused into what they follow; h_swish is HARD_SWISH, h_sigmoid is ADD 3 (fused RELU6) and MUL 1/6,
swish is LOGISTIC and MUL;
symmetric padding is SAME where that pads alike, else PAD + VALID; one group a channel is DEPTHWISE_CONV_2D, other groups are
CONV_2D with a narrower filter, which the runtime reads as groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec, Convolution
from supernets.export.weights import Array, checked
from supernets.walk import run_blocks

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT_BYTES = 16  # of each constant, counted from the start of the file
DESCRIPTION = "elastic-latency"

SPATIAL_AXES = np.array([1, 2], np.int32)  # of NHWC
GROUPED_CONVOLUTION_VERSION = 6  # of CONV_2D, the first that allows groups; every other operator here is of version 1

_FUSED = {"relu": "RELU", "relu6": "RELU6"}


def tflite_model(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], batch: int = 1) -> bytes:
    """Return the blocks as a TFLite file, the same bytes for the same blocks and folded weights.

    Its input is "input" (batch, side, side, channels), its output "output": (batch, side, side, channels), or (batch,
    channels) after a linear block.

    Raises:
        ImportError: the package ai-edge-litert is not installed.
        ValueError: the blocks make no graph, or a tensor is missing or misshapen.
    """
    operations = TfliteOperations(imported_schema(), checked(blocks, weights, batch))
    write(operations, blocks, batch)
    return packed(operations)


def write(operations: TfliteOperations, blocks: Sequence[BlockSpec], batch: int) -> None:
    """Write the blocks by these operations, from a tensor "input" to a tensor "output"."""
    first = blocks[0]
    operations.source = operations.tensor("input", (batch, first.input_side, first.input_side, first.in_channels))
    operations.result = run_blocks(blocks, operations.source, operations)
    operations.tensors[operations.result].name = "output"


def imported_schema() -> Any:
    """Return the module of the format's classes."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        message = "writing TFLite graphs needs the package 'ai-edge-litert'; install it with pip install 'elastic-latency[litert]'"
        raise ImportError(message) from error
    return schema_py_generated


def packed(operations: TfliteOperations) -> bytes:
    """Return the flatbuffer of a graph."""
    import flatbuffers  # comes with ai-edge-litert

    schema, ends = operations.schema, {"inputs": [operations.source], "outputs": [operations.result]}
    subgraph = schema.SubGraphT(name="main", tensors=operations.tensors, operators=operations.operators, **ends)
    model = schema.ModelT(
        version=SCHEMA_VERSION, description=DESCRIPTION, operatorCodes=operations.operator_codes, subgraphs=[subgraph], buffers=operations.buffers
    )
    constant_bytes = sum(len(buffer.data) for buffer in operations.buffers)
    builder = flatbuffers.Builder(constant_bytes + 1024 * (len(operations.tensors) + len(operations.operators)))  # enough: growing copies all
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


@dataclass(frozen=True)
class Buffer:
    """A constant's bytes; packs itself where the schema's own class would, aligned as the format asks (that class does not)."""

    schema: Any
    data: np.ndarray[Any, np.dtype[np.uint8]]

    def Pack(self, builder: Any) -> int:  # the name the schema's classes call
        """Write the bytes and the table that holds them; returns the table's offset."""
        if self.data.size:
            builder.Prep(BUFFER_ALIGNMENT_BYTES, self.data.size)
            data = builder.CreateNumpyVector(self.data)
        self.schema.BufferStart(builder)
        if self.data.size:
            self.schema.BufferAddData(builder, data)
        table: int = self.schema.BufferEnd(builder)
        return table


class TfliteOperations:
    """`supernets.walk.Operations` on tensor indices; collects the parts of a model, from tensor `source` to tensor `result`."""

    source = result = 0

    def __init__(self, schema: Any, weights: Mapping[str, Array]) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.operator_codes: list[Any] = []
        self.buffers = [Buffer(schema, np.empty(0, np.uint8))]  # the first is the empty one of tensors that are computed
        self.schema = schema
        self._weights = weights
        self._constants: dict[str, int] = {}
        self._codes: dict[tuple[str, int], int] = {}

    def convolution(self, x: int, convolution: Convolution) -> int:
        """CONV_2D or DEPTHWISE_CONV_2D, after PAD where SAME would pad otherwise, and before what cannot be fused."""
        schema, batch = self.schema, self._shape(x)[0]
        x, padding = self._padded(x, convolution.kernel_size, convolution.stride)
        options: dict[str, Any] = {"padding": padding, "strideH": convolution.stride, "strideW": convolution.stride}
        options["fusedActivationFunction"] = self._fused(convolution.activation)
        inputs = [x, self._filter(convolution), self._bias(convolution)]
        shape = (batch, convolution.output_side, convolution.output_side, convolution.out_channels)
        if _is_depthwise(convolution):
            options["depthMultiplier"] = convolution.out_channels // convolution.in_channels
            y = self._operator("DEPTHWISE_CONV_2D", inputs, shape, schema.DepthwiseConv2DOptionsT(**options))
        else:
            version = 1 if convolution.groups == 1 else GROUPED_CONVOLUTION_VERSION
            y = self._operator("CONV_2D", inputs, shape, schema.Conv2DOptionsT(**options), version)
        return self._activation(y, convolution.activation)

    def linear(self, x: int, convolution: Convolution) -> int:
        """FULLY_CONNECTED, which flattens by itself."""
        weight = self._weights[f"{convolution.name}.weight"].reshape(convolution.out_channels, convolution.in_channels)
        inputs = [x, self._constant(f"{convolution.name}.weight", weight), self._bias(convolution)]
        return self._operator("FULLY_CONNECTED", inputs, (self._shape(x)[0], convolution.out_channels), self.schema.FullyConnectedOptionsT())

    def mean(self, x: int) -> int:
        """MEAN over the map, which keeps its dimensions."""
        batch, _, _, channels = self._shape(x)
        inputs = [x, self._constant("mean.axes", SPATIAL_AXES)]
        return self._operator("MEAN", inputs, (batch, 1, 1, channels), self.schema.ReducerOptionsT(keepDims=True))

    def multiply(self, x: int, gate: int) -> int:
        """MUL, broadcast over the map."""
        return self._operator("MUL", [x, gate], self._shape(x), self.schema.MulOptionsT())

    def add(self, x: int, y: int, activation: str) -> int:
        """ADD, before what cannot be fused."""
        options = self.schema.AddOptionsT(fusedActivationFunction=self._fused(activation))
        return self._activation(self._operator("ADD", [x, y], self._shape(x), options), activation)

    def average_pool(self, x: int, size: int) -> int:
        """AVERAGE_POOL_2D, whose SAME padding does not count."""
        return self._pool("AVERAGE_POOL_2D", x, size, size, self.schema.Padding.SAME)

    def max_pool(self, x: int, kernel_size: int, stride: int) -> int:
        """MAX_POOL_2D, after PAD where SAME would pad otherwise: zeros are no larger than a map that is nowhere negative."""
        x, padding = self._padded(x, kernel_size, stride)
        return self._pool("MAX_POOL_2D", x, kernel_size, stride, padding)

    def _pool(self, operator: str, x: int, size: int, stride: int, padding: int) -> int:
        batch, side, _, channels = self._shape(x)
        side = (side - (size if padding == self.schema.Padding.VALID else 1)) // stride + 1
        options = self.schema.Pool2DOptionsT(padding=padding, strideH=stride, strideW=stride, filterHeight=size, filterWidth=size)
        return self._operator(operator, [x], (batch, side, side, channels), options)

    def tensor(self, name: str, shape: tuple[int, ...], data: np.ndarray[Any, Any] | None = None) -> int:
        """Return the index of a new tensor, constant where there is data."""
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            little_endian = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
            self.buffers.append(Buffer(self.schema, little_endian.reshape(-1).view(np.uint8)))
        kind = self.schema.TensorType.INT32 if data is not None and data.dtype == np.int32 else self.schema.TensorType.FLOAT32
        self.tensors.append(self.schema.TensorT(name=name, shape=list(shape), type=kind, buffer=buffer))
        return len(self.tensors) - 1

    def _activation(self, x: int, activation: str) -> int:
        """Return the activated map; fused activations and none have been dealt with."""
        schema = self.schema
        if activation == "h_swish":
            return self._operator("HARD_SWISH", [x], self._shape(x), schema.HardSwishOptionsT())
        if activation == "h_sigmoid":
            raised = schema.AddOptionsT(fusedActivationFunction=self._fused("relu6"))
            x = self._operator("ADD", [x, self._constant("h_sigmoid.shift", np.array(3, np.float32))], self._shape(x), raised)
            sixth = self._constant("h_sigmoid.scale", np.array(1 / 6, np.float32))
            return self._operator("MUL", [x, sixth], self._shape(x), schema.MulOptionsT())
        if activation in ("sigmoid", "swish"):
            gate = self._operator("LOGISTIC", [x], self._shape(x))
            return gate if activation == "sigmoid" else self.multiply(x, gate)
        return x

    def _fused(self, activation: str) -> int:
        kind: int = getattr(self.schema.ActivationFunctionType, _FUSED.get(activation, "NONE"))
        return kind

    def _padded(self, x: int, kernel_size: int, stride: int) -> tuple[int, int]:
        """Return the map that a kernel reads and how: the map itself and SAME, or the padded one and VALID."""
        batch, side, _, channels = self._shape(x)
        before, after = _symmetric_padding(side, kernel_size, stride)
        if before == (before + after) // 2:
            return x, self.schema.Padding.SAME
        amounts = np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
        side += before + after
        inputs = [x, self._constant(f"pad.{before}.{after}", amounts)]
        return self._operator("PAD", inputs, (batch, side, side, channels), self.schema.PadOptionsT()), self.schema.Padding.VALID

    def _filter(self, convolution: Convolution) -> int:
        """Return the weight as TFLite lays it out: (out, k, k, in / groups), of depthwise convolutions (1, k, k, out)."""
        name = f"{convolution.name}.weight"
        return self._constant(name, self._weights[name].transpose((1, 2, 3, 0) if _is_depthwise(convolution) else (0, 2, 3, 1)))

    def _bias(self, convolution: Convolution) -> int:
        """Return the bias, zeros where the convolution has none: LiteRT refuses a float CONV_2D without one."""
        name = f"{convolution.name}.bias"
        if name in self._weights:
            return self._constant(name, self._weights[name])
        return self._constant(f"zeros.{convolution.out_channels}", np.zeros(convolution.out_channels, np.float32))

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> int:
        """Return the index of a constant, made at its first use: blocks of one name share their tensors."""
        if name not in self._constants:
            self._constants[name] = self.tensor(name, value.shape, value)
        return self._constants[name]

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(self.tensors[index].shape)

    def _operator(self, operator: str, inputs: list[int], shape: tuple[int, ...], options: Any = None, version: int = 1) -> int:
        """Return the index of the operator's result, a new tensor of this shape."""
        output = self.tensor(f"{operator.lower()}_{len(self.operators)}", shape)
        kind = getattr(self.schema.BuiltinOptions, "NONE" if options is None else type(options).__name__.removesuffix("T"))
        code = self._code(operator, version)
        self.operators.append(
            self.schema.OperatorT(opcodeIndex=code, inputs=inputs, outputs=[output], builtinOptionsType=kind, builtinOptions=options)
        )
        return output

    def _code(self, operator: str, version: int) -> int:
        """Return the operator's index in the table of codes; readers of old schemas look at the deprecated field."""
        if (operator, version) not in self._codes:
            self._codes[operator, version] = len(self.operator_codes)
            code = getattr(self.schema.BuiltinOperator, operator)
            self.operator_codes.append(self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version))
        return self._codes[operator, version]


def _is_depthwise(convolution: Convolution) -> bool:
    return convolution.groups == convolution.in_channels > 1


def _symmetric_padding(side: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after a map that symmetric padding gives the kernel to read (SAME puts half of their sum before)."""
    before = kernel_size // 2
    read = (side - 1) // stride * stride + kernel_size
    return before, max(0, read - side - before)
