"""A device that does not exist: a known cost for each model, seeded noise, a virtual clock. For trying the tool without hardware.

`simulated_cost` says what a model costs, `simulated_noise` what is done to its runs. All but the drift depends on the
seed and the visit's id alone, so an order of visits, or a collection killed and continued, changes no sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar

import numpy as np

from device_agents.base import DeviceAgent, DeviceError, DeviceInfo, DeviceState, ModelFormat, Visit, VisitPlan, models_of_plans
from device_agents.simulated_cost import Cost, Nanoseconds, cost, onnx_package, parsed_model, true_ns
from device_agents.simulated_noise import BIMODAL_VISITS, THROTTLED_FACTOR, Disturbances

SIMULATION_VERSION = "1"  # 1: the formula of simulated_cost

VIRTUAL_EPOCH_NS = 946_684_800 * 10**9  # the virtual clock starts at 2000-01-01, so nobody takes it for a real one
START_NS, LOAD_NS, PAUSE_NS = 1_000_000_000, 10_000_000, 1_000_000  # virtual time to start a worker, to load a model, between visits
STATE = DeviceState(0, load_1m=0.0, frequency_khz=2_000_000, temperature_c=45.0, throttled=False, memory_available_kb=4_000_000)


class SimulatedAgent(DeviceAgent):
    """Pretends to time ONNX models on a device of known speed; named `simulated` in all it returns.

    Raises (constructor):
        ValueError: the seed or a disturbance is out of range, or unknown.
    """

    setting_names: ClassVar[tuple[str, ...]] = ("seed", *(f.name for f in fields(Disturbances)))
    model_format: ModelFormat = "onnx"

    def __init__(self, device: str = "simulated", *, seed: int = 0, **disturbances: Any) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed is {seed!r}; expected a whole number of at least 0")
        unknown = sorted(set(disturbances) - set(self.setting_names))
        if unknown:
            raise ValueError(f"the simulated device has no setting {unknown[0]!r}; its settings are {', '.join(self.setting_names)}")
        self.device = device
        self.seed = seed
        self.disturbances = Disturbances(**disturbances)
        self._costs: dict[bytes, Cost] = {}
        self._now_ns = VIRTUAL_EPOCH_NS

    def info(self) -> DeviceInfo:
        """Return a description that says `simulated` wherever a real device would say what it is.

        Raises:
            ImportError: the package that reads model files is missing.
        """
        onnx_package()
        floor_ns = max(1, round(self.disturbances.timer_overhead_ns + self.disturbances.timer_resolution_ns))
        return DeviceInfo("simulated", "simulated", SIMULATION_VERSION, "none", threads=1, cores=(0,), cpu_model="simulated", kernel="simulated",
                          governor="simulated", extra={"name": self.device, "seed": self.seed, **asdict(self.disturbances),
                                                       "preflight": {"timer_floor_ns": floor_ns, "state": self._state().to_dict()}})  # fmt: skip

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan; no time passes but on the virtual clock."""
        names = models_of_plans(models, plans)
        return self._visits(models, names, list(plans))

    def true_ns(self, models: Sequence[bytes]) -> Nanoseconds:
        """Return what each of these models costs when they run one after another in a visit: undisturbed, shape (n_models,)."""
        return true_ns([self._cost(model) for model in models], range(len(models)))

    def bimodal(self, model: bytes) -> bool:
        """Return whether this model has a second, slower mode."""
        return _uniform(self.seed, "bimodal", hashlib.sha256(model).hexdigest()) < self.disturbances.bimodal_share

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output as ONNX's reference implementation has it: slow, and right."""
        parsed = parsed_model(model)
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
        bimodal = {name for name in names if self.disturbances.bimodal_share and self.bimodal(models[name])}
        worker = f"simulated-{_digest(self.seed, *(plan.id for plan in plans))[:12]}"
        self._now_ns += START_NS + LOAD_NS * len(names)
        for plan in plans:
            factors = [self.disturbances.bimodal_factor if name in bimodal and self._in_second_mode(plan, name) else 1.0 for name in plan.models]
            yield self._visit(plan, true_ns([costs[name] for name in plan.models], plan.models) * factors, worker)

    def _in_second_mode(self, plan: VisitPlan, name: str) -> bool:
        return _uniform(self.seed, "mode", plan.id, name) < BIMODAL_VISITS

    def _visit(self, plan: VisitPlan, model_ns: Nanoseconds, worker: str) -> Visit:
        rng = np.random.default_rng(int(_digest(self.seed, plan.id), 16))
        throttled = bool(rng.random() < self.disturbances.throttled_share)
        model_ns = model_ns * (THROTTLED_FACTOR if throttled else 1.0)
        repeats = max(1, -(-plan.min_call_ns // max(1, round(model_ns[0])))) if plan.min_call_ns else 1
        ideal_ns = np.concatenate([np.tile(model_ns, plan.warmup_cycles), np.tile(np.repeat(model_ns, repeats), plan.cycles)])
        run_ns = self.disturbances.run_ns(ideal_ns, (self._now_ns - VIRTUAL_EPOCH_NS) / 1e9, rng)
        timed_ns = run_ns[plan.warmup_cycles * len(model_ns) :].reshape(plan.cycles, len(model_ns), repeats)
        samples = self.disturbances.call_ns(timed_ns).T
        before = self._state()
        self._now_ns += max(round(float(run_ns.sum())), int(samples.sum()))
        after = replace(self._state(), throttled=throttled)
        self._now_ns += PAUSE_NS
        return Visit(plan.id, np.ascontiguousarray(samples), before, after, worker, repeats)

    def _state(self) -> DeviceState:
        return replace(STATE, unix_time_ns=self._now_ns)

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


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _uniform(*parts: object) -> float:
    """Return a number from 0 to 1 that these parts decide."""
    return int(_digest(*parts)[:13], 16) / 16**13
