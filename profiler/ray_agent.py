"""The agent of a device that hangs on another host of a Ray cluster, where it is the resource `device:NAME`, used by one collector at a time.

What is on the host is the device's own agent. Its visits are streamed to whoever measures.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from device_agents import base
from device_agents.base import Check, DeviceAgent, DeviceError, DeviceInfo, DeviceUnreachable, Visit, VisitPlan, models_of_plans
from device_agents.devices import Device, open_device
from profiler.farm_jobs import sentence

PREFIX = "device:"
PLACED_S = 120.0  # for a host with the device to be there and free
SAME = "install the same version there as here"
THREADS = 4  # of an agent's process: one that measures, one that waits for it, and others that stop and close
CLOSED_S = 60.0  # for an agent to put its device back as it was

# Errors keep their class on the way; others arrive as a DeviceError.
_CLASSES = {cls.__name__: cls for cls in (base.DeviceError, base.DeviceUnreachable, base.RuntimeMissing, base.WorkerFailed, ValueError)}


class HostLost(DeviceUnreachable):
    """The host that a device hangs on has left the cluster, or the device's process there has died."""


def own_version() -> str:
    """Return the version of this package, empty where it is not installed."""
    try:
        return metadata.version("elastic-latency")
    except metadata.PackageNotFoundError:
        return ""


def resource(device: str) -> str:
    """Return the name of the resource that stands for a device."""
    return PREFIX + device


class RayAgent(DeviceAgent):
    """The agent of a device that hangs on another host: the same promises, kept there.

    Raises (constructor):
        HostLost: no host offers the device, or all that do are taken.
        DeviceError, ValueError: as the device's own agent.
    """

    def __init__(self, ray: Any, device: Device) -> None:
        self._ray, self._device = ray, device
        self._models: dict[str, Any] = {}  # SHA-256 → the model in the cluster's object store
        self._measured = 0  # calls of `measure`
        remote = ray.remote(num_cpus=0, resources={resource(device.name): 1}, max_restarts=0, max_concurrency=THREADS)(_HostedAgent)
        self._host = remote.remote(device)
        try:
            self._started()
            traits = self._answer(self._host.open.remote())
        except BaseException:
            ray.kill(self._host)
            raise
        self.model_format, self.runs_chains, self.gives_outputs = traits

    def _started(self) -> None:
        try:
            found = self._get(self._host.version.remote(), PLACED_S)
        except HostLost as error:
            if "creation task" not in str(error.__cause__):
                raise
            said = str(error.__cause__).strip().splitlines()[-1]
            raise DeviceUnreachable(f"the host of device {self._device.name!r} cannot start its agent ({said}); {SAME}") from error
        if found != own_version():
            raise DeviceUnreachable(f"the host of device {self._device.name!r} has version {found} of elastic-latency; {SAME}, {own_version()}")

    def info(self) -> DeviceInfo:
        """Return what the device and its runtime are."""
        return DeviceInfo.from_dict(self._answer(self._host.info.remote()))

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan, as the host sends them; a model is sent to the cluster once."""
        names = models_of_plans(models, plans)
        return self._visits(models, names, list(plans))

    def _visits(self, models: Mapping[str, bytes], names: list[str], plans: list[VisitPlan]) -> Iterator[Visit]:
        sent = {name: self._sent(models[name]) for name in names}
        one_ahead: dict[str, Any] = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1}  # pauses of the collector hold the host
        self._measured += 1
        call = self._measured
        visits = self._host.measure.options(**one_ahead).remote(call, {name: [each] for name, each in sent.items()}, plans)
        ended = False
        try:
            with self._told():
                for each in visits:
                    yield _opened(self._ray.get(each))
            ended = True
        finally:
            if not ended:
                self._host.stop.remote(call)  # this loop was left early: the worker ends after the visit it is in

    def _sent(self, model: bytes) -> Any:
        digest = hashlib.sha256(model).hexdigest()
        if digest not in self._models:
            self._models[digest] = self._ray.put(model)
        return self._models[digest]

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output on the device."""
        outputs: np.ndarray[Any, Any] = self._answer(self._host.run.remote(model, inputs))
        return outputs

    def checks(self) -> Iterator[Check]:
        """Yield the steps that measuring takes, all at once when the host has done them."""
        yield from self._answer(self._host.checks.remote())

    def close(self) -> None:
        """End what runs on the device, and the process on its host."""
        with contextlib.suppress(DeviceError):
            self._get(self._host.close.remote(), CLOSED_S)
        self._ray.kill(self._host)

    def _answer(self, reference: Any) -> Any:
        return _opened(self._get(reference, None))

    def _get(self, reference: Any, timeout_s: float | None) -> Any:
        with self._told():
            return self._ray.get(reference, timeout=timeout_s)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell in one sentence what Ray says of a host that does not answer."""
        errors = self._ray.exceptions
        name = self._device.name
        try:
            yield
        except errors.GetTimeoutError as error:
            raise HostLost(
                f"no host with device {name!r} was free within {PLACED_S:.0f} s: another collection uses it, or its host is gone; "
                "run the same command again when it is back"
            ) from error
        except (
            errors.ActorDiedError,
            errors.ActorUnavailableError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.WorkerCrashedError,
        ) as error:
            raise HostLost(f"the host of device {name!r} was lost; what was measured is kept: run the same command again when it is back") from error


class _HostedAgent:
    """What runs on the host that a device hangs on; in several threads, so that a measurement can be stopped from another."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._agent: DeviceAgent | None = None
        self._stopped = 0  # calls of `measure` up to this one shall end
        self._one_at_a_time = threading.Lock()

    def version(self) -> str:
        """Answer, once there is a host with the device."""
        return own_version()

    def open(self) -> Any:
        """Connect, and return what the agent's class says of it."""

        def opened() -> Any:
            self._agent = open_device(self._device)
            return self._agent.model_format, self._agent.runs_chains, self._agent.gives_outputs

        return _closed(opened)

    def info(self) -> Any:
        return _closed(lambda: self._own().info().to_dict())

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> Any:
        return _closed(lambda: self._own().run(model, inputs))

    def checks(self) -> Any:
        return _closed(lambda: list(self._own().checks()))

    def measure(self, call: int, models: Mapping[str, Any], plans: Sequence[VisitPlan]) -> Iterator[Any]:
        with self._one_at_a_time, contextlib.ExitStack() as stack:
            made = self._own().measure(_Fetched(models), plans)
            stack.callback(getattr(made, "close", lambda: None))  # a generator's: ends the worker where this one is left early
            while self._stopped < call:
                answer = _closed(lambda: next(made, None))
                if answer == (None, None):
                    return
                yield answer
                if answer[0] is not None:
                    return

    def stop(self, call: int) -> None:
        self._stopped = max(self._stopped, call)

    def close(self) -> None:
        self._stopped = sys.maxsize
        if self._agent is not None:
            self._agent.close()

    def _own(self) -> DeviceAgent:
        if self._agent is None:
            raise DeviceUnreachable(f"device {self._device.name!r} is not open")
        return self._agent


class _Fetched(Mapping[str, bytes]):
    """Name → model, fetched from the cluster's object store when it is used."""

    def __init__(self, references: Mapping[str, Any]) -> None:
        self._references = references

    def __getitem__(self, name: str) -> bytes:
        model: bytes = importlib.import_module("ray").get(self._references[name][0])
        return model

    def __contains__(self, name: object) -> bool:
        return name in self._references

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


def _closed(act: Any) -> tuple[tuple[str, str] | None, Any]:
    """Return (None, what `act` returns), or (the class and sentence of its error, None): Ray's own form holds a traceback."""
    try:
        return None, act()
    except Exception as error:
        name = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _CLASSES), "DeviceError")
        return (name, sentence(error)), None


def _opened(answer: tuple[tuple[str, str] | None, Any]) -> Any:
    """Return what was answered, or raise the error that was."""
    error, value = answer
    if error is not None:
        raise _CLASSES[error[0]](error[1])
    return value
