"""What every device has in common that runs our packed worker: only where the worker runs, and how files get there, differs."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from device_agents import archive
from device_agents.base import Check, DeviceAgent, DeviceError, DeviceInfo, Visit, VisitPlan, models_of_plans
from device_agents.on_device.runtimes import runtime_class
from device_agents.worker_channel import WorkerChannel
from device_agents.worker_client import WorkerClient

FILE_PRECISIONS = ("float32", "int8")  # that model files can hold
TIMEOUT_S = 120.0  # of one visit or one model's loading; visits take milliseconds to seconds, so this is for hangs


class Place(Protocol):
    """Where one worker runs, with a private folder for its files. All methods raise DeviceError where the device does not do it."""

    def start(self) -> WorkerChannel:
        """Return a channel to a fresh worker."""

    def put(self, data: bytes) -> str:
        """Return the path of a new file with this content."""

    def get(self, path: str) -> bytes:
        """Return what is in a file."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def allowed_cores(self) -> list[int] | None:
        """Return the cores that a worker may use, in ascending order; None where the system cannot tell."""


class WorkerAgent(DeviceAgent):
    """Times models in a fresh worker process for each `measure`, pinned to `cores`: [] does not pin, None takes the last ones allowed.

    Raises (constructor):
        ValueError: a setting is out of range or unknown.
    """

    def __init__(self, device: str, *, runtime: str, threads: int, cores: Sequence[int] | None, batch: int, precision: str,
                 timeout_s: float, worker_archive: bytes | None) -> None:  # fmt: skip
        self.device = device
        self.runtime = runtime
        chosen = runtime_class(runtime)
        self.model_format = chosen.model_format
        precisions = getattr(chosen, "precisions", None)  # of a runtime that computes in another one than the model file's, when told so
        if precision not in (precisions or FILE_PRECISIONS):
            raise ValueError(f"precision is {precision!r}; runtime {runtime!r} runs {' and '.join(precisions or FILE_PRECISIONS)}")
        self.threads = whole("threads", threads, 1)
        self.batch = whole("batch", batch, 1)
        self.cores = None if cores is None else tuple(whole("cores", core, 0) for core in cores)
        if self.cores and len(set(self.cores)) < threads:
            raise ValueError(f"threads is {threads}, but cores are {list(self.cores)}; give each thread a core, or cores = [] not to pin")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s!r}; expected seconds above 0")
        self.precision = precision
        self.timeout_s = timeout_s
        self.runtime_options: dict[str, Any] = {"precision": precision} if precisions else {}  # keywords of the runtime's class
        self._archive = archive.pack() if worker_archive is None else worker_archive
        self._info: DeviceInfo | None = None
        self._clock_limits_khz: Sequence[int | None] | None = None  # when the session began
        self._channels: set[WorkerChannel] = set()

    @abstractmethod
    def _place(self) -> AbstractContextManager[Place]:
        """Give a place for one worker; its files are gone afterwards."""

    def info(self) -> DeviceInfo:
        """Return what a worker says of the device; asked once, with its preflight in `extra`."""
        if self._info is None:
            with self._worker() as (worker, _):
                preflight = worker.preflight()
                self._info = replace(worker.info, extra={**worker.info.extra, "preflight": preflight})
                self._clock_limits_khz = preflight["clock_limits_khz"]
        return self._info

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan, each as soon as it ends, all from one fresh worker process."""
        names = models_of_plans(models, plans)
        return self._visits(models, names, list(plans))

    def _visits(self, models: Mapping[str, bytes], names: list[str], plans: list[VisitPlan]) -> Iterator[Visit]:
        with self._worker() as (worker, place):
            for name in names:
                _load(worker, name, models[name], place)
            for plan in plans:
                yield worker.run(plan)

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output for `inputs` (n, ...), in the model's own layout."""
        if not len(inputs) or len(inputs) % self.batch:
            raise ValueError(f"{len(inputs)} inputs were given; expected a multiple of the batch {self.batch}")
        with self._worker() as (worker, place):
            _load(worker, "model", model, place)
            given = io.BytesIO()
            np.save(given, inputs, allow_pickle=False)
            path = place.put(given.getvalue())
            worker.outputs("model", path, f"{path}.npy", len(inputs) // self.batch)
            outputs: np.ndarray[Any, Any] = np.load(io.BytesIO(place.get(f"{path}.npy")), allow_pickle=False)
            place.remove(path)
            place.remove(f"{path}.npy")
        return outputs

    def checks(self) -> Iterator[Check]:
        """Yield the steps that measuring takes, each as soon as it is proved; a failed one is the last."""
        try:
            info = self.info()
        except DeviceError as error:
            yield Check("runtime", False, str(error))
            return
        yield Check("runtime", True, f"{info.runtime} {info.runtime_version} ({info.delegate})")
        yield from checks_of_info(info)

    def close(self) -> None:
        """End workers that still run."""
        for channel in list(self._channels):
            channel.close()

    @contextmanager
    def _worker(self) -> Iterator[tuple[WorkerClient, Place]]:
        """Give a fresh worker and its place; both are gone afterwards, however it ends."""
        with self._place() as place:
            cores = self._cores(place)
            channel = place.start()
            self._channels.add(channel)
            try:
                worker = WorkerClient(channel, self.device, runtime=self.runtime, threads=self.threads, cores=cores, batch=self.batch,
                                      precision=self.precision, timeout_s=self.timeout_s, clock_limits_khz=self._clock_limits_khz,
                                      options=self.runtime_options)  # fmt: skip
                yield worker, place
                channel.quit()
            finally:
                channel.close()
                self._channels.discard(channel)

    def _cores(self, place: Place) -> Sequence[int]:
        if self.cores is not None:
            return self.cores
        try:
            return last_cores(self.threads, place.allowed_cores())
        except ValueError as error:
            raise DeviceError(f"device {self.device!r}: {error}") from None


def last_cores(threads: int, allowed: Sequence[int] | None) -> tuple[int, ...]:
    """Return the last of the cores that a process may use, one a thread; interrupts and other work favour the first.

    Raises:
        ValueError: there are fewer cores than threads, or the system cannot tell.
    """
    if allowed is None:
        raise ValueError("this system cannot tell which cores may be used; set cores = [] for the device to measure unpinned")
    if threads > len(allowed):
        raise ValueError(f"threads is {threads}, but this process may use only the cores {list(allowed)}; use at most {len(allowed)} threads")
    return tuple(allowed[-threads:])


def checks_of_info(info: DeviceInfo) -> Iterator[Check]:
    """Yield what a device's own words prove of its cores, clock, temperature and throttling; None where it cannot tell."""
    preflight = info.extra["preflight"]
    state = preflight["state"]
    yield Check("cores", bool(info.cores) or None, f"pinned to {list(info.cores)}" if info.cores else "not pinned")
    clock_khz, governor = state["frequency_khz"], f", governor {info.governor}" if info.governor else ""
    limits, maxima = _highest(preflight["clock_limits_khz"]), _highest(preflight["clock_maxima_khz"])
    now = "not readable" if clock_khz is None else f"{clock_khz / 1000:g} MHz now, allowed {limits} of {maxima}"
    yield Check("clock", clock_khz is not None or None, now + governor)
    celsius = state["temperature_c"]
    yield Check("temperature", celsius is not None or None, "not readable" if celsius is None else f"{celsius:.1f} °C")
    throttled = state["throttled"]
    text = {None: "the device cannot tell", True: "throttled now: too hot, under-powered, or its clock is capped", False: "not throttled"}[throttled]
    yield Check("throttling", None if throttled is None else not throttled, text)
    if preflight["battery_percent"] is not None:
        yield Check("battery", None, f"{preflight['battery_percent']} %, {preflight['battery_status']}")


def _highest(clocks_khz: Sequence[int | None]) -> str:
    known = [clock for clock in clocks_khz if clock is not None]
    return f"{max(known) / 1000:g} MHz" if known else "unknown"


def _load(worker: WorkerClient, name: str, model: bytes, place: Place) -> None:
    path = place.put(model)
    worker.load(name, path)
    place.remove(path)  # the runtime has read or mapped it


def whole(name: str, value: Any, least: int) -> int:
    """Return a setting that is a whole number of at least this.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value
