"""An agent whose samples follow from a script: known costs, two speed levels, and whatever shall go wrong.

Models are JSON lists of block keys, as `keys_of_blocks` makes them. Samples depend on the plan's id alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from device_agents.base import DeviceAgent, DeviceInfo, DeviceState, ModelFormat, Visit, VisitPlan, models_of_plans
from supernets.blocks import BlockSpec

STATE = DeviceState(1_700_000_000_000_000_000, load_1m=0.5, temperature_c=41.5, throttled=False)
SLOW_FACTOR = 1.3


def keys_of_blocks(blocks: Sequence[BlockSpec]) -> bytes:
    return json.dumps([block.key for block in blocks]).encode()


def block_cost_ns(key: str) -> int:
    """Between 0.1 and 1.1 ms, different for different blocks."""
    return 100_000 + int(hashlib.sha256(key.encode()).hexdigest(), 16) % 1_000_000


def model_cost_ns(model: bytes) -> int:
    return sum(map(block_cost_ns, json.loads(model)))


class Interrupted(Exception):
    """What the script throws."""


class ScriptedAgent(DeviceAgent):
    """`before_visit(number, plan)` is called before each visit of this agent's life, numbered from 0; `throttled(plan)` marks visits."""

    model_format: ModelFormat = "onnx"

    def __init__(self, before_visit: Callable[[int, VisitPlan], None] | None = None, throttled: Callable[[VisitPlan], bool] | None = None,
                 slow_share: float = 0.0, **info: Any) -> None:  # fmt: skip
        self.before_visit, self.throttled, self.slow_share = before_visit, throttled, slow_share
        self.description = replace(DeviceInfo("scripted", "script", "1.0", "none", threads=1, cores=(1,), cpu_model="paper"), **info)
        self.workers: list[list[str]] = []  # ids of the visits of each worker
        self.loaded: list[list[str]] = []  # names of the models of each worker
        self.visits = 0

    def info(self) -> DeviceInfo:
        return self.description

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        return self._visits(models, models_of_plans(models, plans), plans)

    def _visits(self, models: Mapping[str, bytes], names: list[str], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        costs = {name: model_cost_ns(models[name]) for name in names}
        made: list[str] = []
        self.loaded.append(names)
        self.workers.append(made)
        for plan in plans:
            if self.before_visit is not None:
                self.before_visit(self.visits, plan)
            rng = np.random.default_rng(int(hashlib.sha256(plan.id.encode()).hexdigest(), 16))
            level = SLOW_FACTOR if rng.random() < self.slow_share else 1.0
            ideal_ns = np.array([[costs[name]] for name in plan.models], dtype=np.float64)
            samples = (ideal_ns * level * (1 + np.abs(rng.normal(0, 0.004, (len(plan.models), plan.cycles))))).astype(np.int64)
            throttled = self.throttled is not None and self.throttled(plan)
            self.visits += 1
            made.append(plan.id)
            yield Visit(plan.id, samples, STATE, replace(STATE, throttled=throttled), f"worker-{len(self.workers)}")

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise NotImplementedError
