"""A device that does not exist: a known cost for each model, seeded noise, a virtual clock. For trying the tool without hardware.

What a model costs, in nanoseconds (constants below), from its ONNX graph:

    run   = BOUNDARY_NS + its input and output bytes / BOUNDARY_BYTES_PER_NS          (layout conversion, once a model)
          + for each node: NODE_NS + macs / MACS_PER_NS[kind] + map bytes read and written / MAP_BYTES_PER_NS
          + weight bytes * missing / WEIGHT_BYTES_PER_NS
    missing = max(0, 1 - CACHE_BYTES / weight bytes of all different models of the visit)

So a block alone finds its weights in the cache and is too fast, blocks in a chain do not and pay a boundary each, and
the whole network pays one boundary: sums of blocks are wrong in the ways that real ones are, and need calibration.

A run's sample is that times a speed level (1 or SLOW_FACTOR, which the device changes between at random), times a
jitter of about JITTER upwards, rarely interrupted. Noise depends on the seed and the visit's id alone, so an order of
visits, or a collection killed and continued, changes no sample.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from device_agents.base import DeviceAgent, DeviceError, DeviceInfo, DeviceState, ModelFormat, Visit, VisitPlan, models_of_plans

Nanoseconds: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Shapes: TypeAlias = dict[str, tuple[int, ...]]

SIMULATION_VERSION = "1"  # 1: the formula above

BOUNDARY_NS = 2_000.0
BOUNDARY_BYTES_PER_NS = 8.0
NODE_NS = 500.0
MACS_PER_NS = {"dense": 20.0, "depthwise": 5.0}
MAP_BYTES_PER_NS = 20.0
WEIGHT_BYTES_PER_NS = 5.0
CACHE_BYTES = 256 * 1024

SLOW_FACTOR = 1.28
FAST_DWELL_NS, SLOW_DWELL_NS = 80e6, 100e6  # mean stay at each level
JITTER = 0.01
INTERRUPTED_SHARE = 0.01
THROTTLED_FACTOR = 1.5

VIRTUAL_EPOCH_NS = 946_684_800 * 10**9  # the virtual clock starts at 2000-01-01, so nobody takes it for a real one
PAUSE_NS = 5_000_000  # virtual time between visits
STATE = DeviceState(0, load_1m=0.0, frequency_khz=2_000_000, temperature_c=45.0, throttled=False, memory_available_kb=4_000_000)


@dataclass(frozen=True)
class Cost:
    """A model's cost: nanoseconds with all weights in the cache, and the bytes of its weights."""

    cached_ns: float
    weight_bytes: int


class SimulatedAgent(DeviceAgent):
    """Pretends to time ONNX models on a device of known speed; named `simulated` in all it returns.

    `throttled_share` of the visits come back THROTTLED_FACTOR slower and marked as throttled.

    Raises (constructor):
        ValueError: the seed or the share is out of range.
    """

    setting_names: ClassVar[tuple[str, ...]] = ("seed", "throttled_share")
    model_format: ModelFormat = "onnx"

    def __init__(self, device: str = "simulated", *, seed: int = 0, throttled_share: float = 0.0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed is {seed!r}; expected a whole number of at least 0")
        if not 0 <= throttled_share <= 1:
            raise ValueError(f"throttled_share is {throttled_share!r}; expected a share from 0 to 1")
        self.device = device
        self.seed = seed
        self.throttled_share = throttled_share
        self._costs: dict[bytes, Cost] = {}
        self._now_ns = VIRTUAL_EPOCH_NS

    def info(self) -> DeviceInfo:
        """Return a description that says `simulated` wherever a real device would say what it is."""
        return DeviceInfo("simulated", "simulated", SIMULATION_VERSION, "none", threads=1, cores=(0,), cpu_model="simulated", kernel="simulated",
                          extra={"name": self.device, "seed": self.seed, "throttled_share": self.throttled_share})  # fmt: skip

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan; no time passes but on the virtual clock."""
        names = models_of_plans(models, plans)
        return self._visits(models, names, list(plans))

    def true_ns(self, models: Sequence[bytes]) -> Nanoseconds:
        """Return what each of these models costs, without noise, when they run one after another in a visit, shape (n_models,)."""
        return true_ns([self._cost(model) for model in models], range(len(models)))

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output as ONNX's reference implementation has it: slow, and right."""
        parsed = _parsed(model)
        from onnx.reference import ReferenceEvaluator

        value = parsed.graph.input[0]
        batch = value.type.tensor_type.shape.dim[0].dim_value or 1
        if not len(inputs) or len(inputs) % batch:
            raise ValueError(f"{len(inputs)} inputs were given; expected a multiple of the model's batch {batch}")
        evaluator: Any = ReferenceEvaluator(parsed)
        outputs = [evaluator.run(None, {value.name: inputs[start : start + batch]})[0] for start in range(0, len(inputs), batch)]
        return np.concatenate(outputs)

    def _visits(self, models: Mapping[str, bytes], names: list[str], plans: list[VisitPlan]) -> Iterator[Visit]:
        costs = {name: self._named_cost(name, models[name]) for name in names}
        worker = f"simulated-{_digest(self.seed, *(plan.id for plan in plans))[:12]}"
        for plan in plans:
            yield self._visit(plan, [costs[name] for name in plan.models], worker)

    def _visit(self, plan: VisitPlan, costs: list[Cost], worker: str) -> Visit:
        rng = np.random.default_rng(int(_digest(self.seed, plan.id), 16))
        throttled = bool(rng.random() < self.throttled_share)
        rounds = plan.warmup_cycles + plan.cycles
        ideal_ns = np.tile(true_ns(costs, plan.models) * (THROTTLED_FACTOR if throttled else 1.0), rounds)
        noisy_ns = np.maximum(1, np.rint(ideal_ns * noise(ideal_ns, rng))).astype(np.int64)
        before = replace(STATE, unix_time_ns=self._now_ns)
        self._now_ns += int(noisy_ns.sum())
        after = replace(STATE, unix_time_ns=self._now_ns, throttled=throttled)
        self._now_ns += PAUSE_NS
        samples = noisy_ns.reshape(rounds, len(costs))[plan.warmup_cycles :].T
        return Visit(plan.id, np.ascontiguousarray(samples), before, after, worker)

    def _named_cost(self, name: str, model: bytes) -> Cost:
        try:
            return self._cost(model)
        except DeviceError as error:
            raise DeviceError(f"loading model {name!r}: {error}") from error

    def _cost(self, model: bytes) -> Cost:
        key = hashlib.sha256(model).digest()
        if key not in self._costs:
            self._costs[key] = cost(model)
        return self._costs[key]


def true_ns(costs: Sequence[Cost], names: Sequence[Hashable]) -> Nanoseconds:
    """Return the noiseless cost of models that run one after another; equal names share their weights. Shape (n_models,)."""
    weight_bytes = sum({name: cost.weight_bytes for name, cost in zip(names, costs, strict=True)}.values())
    missing = max(0.0, 1 - CACHE_BYTES / weight_bytes) if weight_bytes else 0.0
    return np.array([cost.cached_ns + cost.weight_bytes * missing / WEIGHT_BYTES_PER_NS for cost in costs])


def noise(ideal_ns: Nanoseconds, rng: np.random.Generator) -> Nanoseconds:
    """Return the factor on each of these consecutive runs: speed level, jitter, rare interruptions."""
    middle_ns = np.cumsum(ideal_ns) - ideal_ns / 2
    slow = bool(rng.random() < SLOW_DWELL_NS / (FAST_DWELL_NS + SLOW_DWELL_NS))
    ends_ns: list[float] = []
    levels = [slow]
    while not ends_ns or ends_ns[-1] < middle_ns[-1]:
        ends_ns.append((ends_ns[-1] if ends_ns else 0.0) + rng.exponential(SLOW_DWELL_NS if levels[-1] else FAST_DWELL_NS))
        levels.append(not levels[-1])
    level = np.where(np.array(levels)[np.searchsorted(ends_ns, middle_ns)], SLOW_FACTOR, 1.0)
    interrupted = np.where(rng.random(len(ideal_ns)) < INTERRUPTED_SHARE, 1 + rng.exponential(size=len(ideal_ns)), 1.0)
    return np.asarray(level * np.exp(np.abs(rng.normal(0.0, JITTER, len(ideal_ns)))) * interrupted)


def cost(model: bytes) -> Cost:
    """Return what the formula of this file makes of an ONNX model.

    Raises:
        ImportError: the package onnx is missing.
        DeviceError: the bytes are no ONNX model, or a shape in it is not fixed.
    """
    parsed = _parsed(model)
    graph = parsed.graph
    weights: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weight_bytes = sum(math.prod(shape) for shape in weights.values()) * 4
    for tensor in graph.initializer:
        if math.prod(tuple(tensor.dims)) > 64:
            tensor.ClearField("raw_data")  # shapes are all that is wanted, and inference copies the model
    inferred = _onnx().shape_inference.infer_shapes(parsed).graph
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


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _parsed(model: bytes) -> Any:
    try:
        parsed = _onnx().load_model_from_string(model)
    except ImportError:
        raise
    except Exception as error:  # protobuf's own error types differ from release to release
        raise DeviceError(f"the simulated device got {len(model)} bytes that are no ONNX model: {error}") from error
    if not parsed.graph.node:
        raise DeviceError(f"the simulated device got an ONNX model of {len(model)} bytes without any node")
    return parsed


def _onnx() -> Any:
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise ImportError("the simulated device needs the package 'onnx'; install it with pip install 'elastic-latency[onnx]'") from error
    return onnx
