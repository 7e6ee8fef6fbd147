"""What an ONNX model costs on the simulated device, in nanoseconds, from its graph (constants below):

    run   = BOUNDARY_NS + its input and output bytes / BOUNDARY_BYTES_PER_NS          (layout conversion, once a model)
          + for each node: NODE_NS + macs / MACS_PER_NS[kind] + map bytes read and written / MAP_BYTES_PER_NS
          + weight bytes * missing / WEIGHT_BYTES_PER_NS
    missing = max(0, 1 - CACHE_BYTES / weight bytes of all different models of the visit)

So a block alone finds its weights in the cache and is too fast, blocks in a chain do not and pay a boundary each, and
the whole network pays one boundary: sums of blocks are wrong in the ways that real ones are, and need calibration.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from device_agents.base import DeviceError

Nanoseconds: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Shapes: TypeAlias = dict[str, tuple[int, ...]]

BOUNDARY_NS = 2_000.0
BOUNDARY_BYTES_PER_NS = 8.0
NODE_NS = 500.0
MACS_PER_NS = {"dense": 20.0, "depthwise": 5.0}
MAP_BYTES_PER_NS = 20.0
WEIGHT_BYTES_PER_NS = 5.0
CACHE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Cost:
    """A model's cost: nanoseconds with all weights in the cache, and the bytes of its weights."""

    cached_ns: float
    weight_bytes: int


def true_ns(costs: Sequence[Cost], names: Sequence[Hashable]) -> Nanoseconds:
    """Return the noiseless cost of models that run one after another; equal names share their weights. Shape (n_models,)."""
    weight_bytes = sum({name: cost.weight_bytes for name, cost in zip(names, costs, strict=True)}.values())
    missing = max(0.0, 1 - CACHE_BYTES / weight_bytes) if weight_bytes else 0.0
    return np.array([cost.cached_ns + cost.weight_bytes * missing / WEIGHT_BYTES_PER_NS for cost in costs])


def cost(model: bytes) -> Cost:
    """Return what the formula of this file makes of an ONNX model.

    Raises:
        ImportError: the package onnx is missing.
        DeviceError: the bytes are no ONNX model, or a shape in it is not fixed.
    """
    parsed = parsed_model(model)
    graph = parsed.graph
    weights: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weight_bytes = sum(math.prod(shape) for shape in weights.values()) * 4
    for tensor in graph.initializer:
        if math.prod(tuple(tensor.dims)) > 64:
            tensor.ClearField("raw_data")  # shapes are all that is wanted, and inference copies the model
    inferred = onnx_package().shape_inference.infer_shapes(parsed).graph
    maps = {value.name: _shape(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    ends = [value.name for value in (*graph.input, *graph.output) if value.name not in weights]
    nodes_ns = sum(_node_ns(node, maps, weights) for node in graph.node if node.op_type != "Constant")
    return Cost(BOUNDARY_NS + 4 * sum(math.prod(maps[name]) for name in ends) / BOUNDARY_BYTES_PER_NS + nodes_ns, weight_bytes)


def _node_ns(node: Any, maps: Shapes, weights: Shapes) -> float:
    map_names = [name for name in (*node.input, *node.output) if name and name not in weights]
    unknown = [name for name in map_names if name not in maps]
    if unknown:
        raise DeviceError(
            f"the simulated device cannot tell the shape of {unknown[0]!r} at {node.op_type} {node.name!r}; give the model fixed shapes"
        )
    macs, kind = 0, "dense"
    if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights:
        weight, result = weights[node.input[1]], maps[node.output[0]]
        if node.op_type == "Conv":  # each weight is used once for each pixel of the result
            macs = math.prod(weight) * result[0] * math.prod(result[2:])
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            kind = "depthwise" if groups > 1 and weight[1] == 1 else "dense"
        else:
            macs = math.prod(weight) * math.prod(result[:-1])
    map_bytes = 4 * sum(math.prod(maps[name]) for name in map_names)
    return NODE_NS + macs / MACS_PER_NS[kind] + map_bytes / MAP_BYTES_PER_NS


def _shape(value: Any) -> tuple[int, ...]:
    sides = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
    if not all(sides):
        raise DeviceError(f"the simulated device got a model in which {value.name!r} has no fixed shape; give it a fixed one")
    return sides


def parsed_model(model: bytes) -> Any:
    """Return the ONNX model in these bytes.

    Raises:
        ImportError: the package onnx is missing.
        DeviceError: the bytes are no ONNX model.
    """
    try:
        parsed = onnx_package().load_model_from_string(model)
    except ImportError:
        raise
    except Exception as error:  # protobuf's own error types differ from release to release
        raise DeviceError(f"the simulated device got {len(model)} bytes that are no ONNX model: {error}") from error
    if not parsed.graph.node:
        raise DeviceError(f"the simulated device got an ONNX model of {len(model)} bytes without any node")
    return parsed


def onnx_package() -> Any:
    """Return the package that reads model files.

    Raises:
        ImportError: it is missing.
    """
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise ImportError("the simulated device needs the package 'onnx'; install it with pip install 'elastic-latency[onnx]'") from error
    return onnx
