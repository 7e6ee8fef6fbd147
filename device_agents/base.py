"""What every device agent promises: plans of visits in, raw samples in integer nanoseconds out, and the errors on the way.

An agent knows no blocks and averages nothing. None in a state means that the device could not say; it never means 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np

ModelFormat: TypeAlias = Literal["onnx", "tflite", "torch"]
Samples: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Data = TypeVar("Data")
Agent = TypeVar("Agent", bound="DeviceAgent")

# --- errors: DeviceError > DeviceUnreachable, RuntimeMissing, WorkerFailed, UnknownDevice ----------------------------------


class DeviceError(RuntimeError):
    """A device did not do what was asked; the text names the device."""


class DeviceUnreachable(DeviceError, ConnectionError):
    """No worker could be started on the device."""


class RuntimeMissing(DeviceError, ImportError):
    """The device lacks the inference runtime."""


class WorkerFailed(DeviceError):
    """The worker on the device died, hung, or answered nonsense."""


class UnknownDevice(DeviceError, LookupError):
    """No device has that name."""


# --- data -----------------------------------------------------------------------------------------------------------------


def _from_dict(cls: type[Data], what: str, values: Mapping[str, Any]) -> Data:
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{what} has no field {', '.join(unknown)}; known fields: {', '.join(known)}")
    return cls(**values)


@dataclass(frozen=True)
class DeviceState:
    """What a device said of itself at one moment; None where it could not say."""

    unix_time_ns: int
    load_1m: float | None = None
    frequency_khz: int | None = None  # the slowest of the cores in use
    temperature_c: float | None = None  # the hottest zone that belongs to the processor
    throttled: bool | None = None  # now or since the reading before: too hot, under-powered, or its clock capped since the session began
    memory_available_kb: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceState:
        """Return the state that `to_dict` described.

        Raises:
            ValueError: an unknown field.
        """
        return _from_dict(cls, "a device state", values)


@dataclass(frozen=True)
class DeviceInfo:
    """The device, its runtime, and how the runtime is set up; measurements of different ones are never mixed.

    `runtime`, its version and `delegate` are what the worker found in use, `cores` what the kernel confirmed (empty: not
    pinned). `extra` holds what else may explain a difference, the preflight among it, and decides nothing.
    """

    device: str
    runtime: str
    runtime_version: str
    delegate: str
    threads: int
    cores: tuple[int, ...]
    batch: int = 1
    precision: str = "float32"
    cpu_model: str | None = None
    kernel: str | None = None
    governor: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cores", tuple(self.cores))
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"cores": list(self.cores), "extra": dict(self.extra)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceInfo:
        """Return the info that `to_dict` described.

        Raises:
            ValueError: an unknown field.
        """
        return _from_dict(cls, "a device info", values)


@dataclass(frozen=True)
class VisitPlan:
    """One visit: `models` run one after another, `cycles` times round after `warmup_cycles` untimed rounds.

    Several models are a chain, each meeting the caches as the one before it left them; a single one runs alone, repeated
    inside each timed call until a call takes `min_call_ns`.

    Raises:
        ValueError: an empty id, no models, or a number of cycles out of range.
    """

    id: str
    models: tuple[str, ...]
    cycles: int
    warmup_cycles: int = 0
    min_call_ns: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        if not self.id or not self.models:
            raise ValueError(f"visit plan {self.id!r} has the models {self.models}; expected an id and at least one model")
        if self.cycles < 1 or self.warmup_cycles < 0:
            raise ValueError(f"visit plan {self.id!r} has cycles {self.cycles}, warmup_cycles {self.warmup_cycles}; expected at least 1 and 0")
        if self.min_call_ns < 0 or (self.min_call_ns and len(self.models) > 1):
            raise ValueError(f"visit plan {self.id!r} has min_call_ns {self.min_call_ns} for {len(self.models)} models; a chain is not repeated")


@dataclass(frozen=True, eq=False)
class Visit:
    """What a visit brought back: `samples_ns` (n_models, n_samples), all positive, rows in the order of the plan's models.

    Each sample is one timed call, in which the model ran `repeats` times; there are as many as the plan has cycles, or fewer
    where a device tells the total of several runs only. `worker` tells worker processes apart.

    Raises:
        ValueError: samples that are not a table of positive 64-bit integers, or repeats under 1.
    """

    plan_id: str
    samples_ns: Samples
    state_before: DeviceState
    state_after: DeviceState
    worker: str
    repeats: int = 1

    def __post_init__(self) -> None:
        samples = self.samples_ns
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int) or self.repeats < 1:
            raise ValueError(f"repeats of visit {self.plan_id!r} is {self.repeats!r}; expected a whole number of at least 1")
        if samples.dtype != np.int64 or samples.ndim != 2 or not samples.size or samples.min() <= 0:
            raise ValueError(f"samples of visit {self.plan_id!r} are {samples.dtype} {samples.shape}; expected positive int64 (n_models, cycles)")


@dataclass(frozen=True)
class Check:
    """One step of proving that a device can be measured: `passed` is None where the device cannot tell; `text` says what was found."""

    name: str
    passed: bool | None
    text: str


# --- the contract ---------------------------------------------------------------------------------------------------------


class DeviceAgent(ABC):
    """Reaches one device; a context manager that leaves no worker and no file behind.

    `setting_names` are the keys that a device of this transport may have in devices.toml, and keywords of the constructor,
    whose first parameter is the device's name. `runs_chains` says whether several models can be run in one process, and
    `gives_outputs` whether `run` can tell what a model computes.
    """

    setting_names: ClassVar[tuple[str, ...]] = ()
    model_format: ModelFormat
    runs_chains: bool = True
    gives_outputs: bool = True

    @abstractmethod
    def info(self) -> DeviceInfo:
        """Return what the device and its runtime are.

        Raises:
            DeviceError: the device cannot be reached, lacks the runtime, or refuses its cores.
        """

    @abstractmethod
    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan, each as soon as it ends, all from one fresh worker process.

        `models` maps names to the bytes of model files in `model_format`; each is read once, when it is sent.

        Raises:
            ValueError: a plan names a model that is not given, or two plans share an id.
            DeviceError: the device cannot be reached, lacks the runtime, or its worker failed; visits already yielded stand.
        """

    @abstractmethod
    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output on the device for `inputs` (n, ...) in the model's own layout, shape (n, ...).

        Raises:
            ValueError: n is not a multiple of the model's batch.
            DeviceError: the device cannot be reached, lacks the runtime, or its worker failed.
        """

    def checks(self) -> Iterator[Check]:
        """Yield the steps that measuring takes, each as soon as it is proved; a failed one is the last."""
        try:
            info = self.info()
        except DeviceError as error:
            yield Check("runtime", False, str(error))
            return
        yield Check("runtime", True, f"{info.runtime} {info.runtime_version} ({info.delegate})")

    def close(self) -> None:  # noqa: B027 - an agent without processes has nothing to end
        """End what still runs on the device; iterators still open fail at their next step."""

    def __enter__(self: Agent) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def models_of_plans(models: Iterable[str], plans: Sequence[VisitPlan]) -> list[str]:
    """Return the names of the models the plans use, in order of first use.

    Raises:
        ValueError: a plan names a model that is not given, or two plans share an id.
    """
    given = set(models)
    ids: set[str] = set()
    for plan in plans:
        if plan.id in ids:
            raise ValueError(f"two visit plans have the id {plan.id!r}; each visit needs its own")
        ids.add(plan.id)
        missing = [name for name in plan.models if name not in given]
        if missing:
            raise ValueError(f"visit plan {plan.id!r} names the model {missing[0]!r}, which is not among the {len(given)} models given")
    return list(dict.fromkeys(name for plan in plans for name in plan.models))
