"""The host's end of the wire format: what a worker is asked, and its replies as checked data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from device_agents.base import DeviceError, DeviceInfo, DeviceState, DeviceUnreachable, RuntimeMissing, Visit, VisitPlan
from device_agents.on_device import wire
from device_agents.worker_channel import WorkerChannel

START_TIMEOUT_S = 120.0  # importing a runtime took 17 s on an emulated ARM board under load
REPEATED_IN_INFO = ("reply", "protocol", "pid", "unix_time_ns", "runtime", "runtime_version", "delegate", "cores", "cpu_model", "kernel", "governor")


class WorkerClient:
    """A started worker with its runtime set up, by `options` that are the runtime's own; `info` is what it said of itself.

    Raises (constructor and methods):
        RuntimeMissing: the runtime is not installed there.
        WorkerFailed: the worker died, hung, answered nonsense, or could not do what was asked.
        DeviceUnreachable: the processor that the runtime runs on is not there.
        DeviceError: the device refused the cores.
    """

    def __init__(self, channel: WorkerChannel, device: str, *, runtime: str, threads: int, cores: Sequence[int], batch: int, precision: str,
                 timeout_s: float, clock_limits_khz: Sequence[int | None] | None = None,
                 options: Mapping[str, Any] | None = None) -> None:  # fmt: skip
        self._channel = channel
        self._device = device
        self._batch = batch
        self._timeout_s = timeout_s
        hello = {
            "request": "hello", "protocol": wire.PROTOCOL_VERSION, "runtime": runtime, "threads": threads, "cores": list(cores),
            "clock_limits_khz": clock_limits_khz, "options": dict(options or {}),
        }  # fmt: skip
        reply = self._ask(hello, max(START_TIMEOUT_S, timeout_s), "starting")
        try:
            self.name = f"{reply['pid']}-{reply['unix_time_ns']}"
            self.info = DeviceInfo(
                device=device, runtime=reply["runtime"], runtime_version=reply["runtime_version"], delegate=reply["delegate"], threads=threads,
                cores=tuple(reply["cores"]), batch=batch, precision=precision, cpu_model=reply["cpu_model"], kernel=reply["kernel"],
                governor=reply["governor"], extra={key: value for key, value in reply.items() if key not in REPEATED_IN_INFO},
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise self._channel.failed(f"introduced itself without {error}") from None

    def preflight(self) -> dict[str, Any]:
        """Return what may explain a session's figures: see `on_device.preflight`."""
        reply = self._ask({"request": "preflight"}, self._timeout_s, "reading the preflight")
        return {name: value for name, value in reply.items() if name != "reply"}

    def load(self, model: str, path: str) -> None:
        """Load the model file at this path of the device under this name.

        Raises:
            DeviceError: the file's batch is another one than the agent's, or the runtime applied another delegate to it.
        """
        reply = self._ask({"request": "load", "model": model, "path": path}, self._timeout_s, f"loading model {model!r}")
        shapes = reply.get("input_shapes")
        if not shapes or any(shape[0] != self._batch for shape in shapes):
            wanted = f"device {self._device!r} measures batch {self._batch}; set its `batch`, or export for it"
            raise DeviceError(f"model {model!r} has the input shapes {shapes}, but {wanted}")
        if reply.get("delegate") != self.info.delegate:
            raise DeviceError(f"model {model!r} runs on device {self._device!r} by {reply.get('delegate')!r}; expected {self.info.delegate!r}")

    def run(self, plan: VisitPlan) -> Visit:
        """Return the visit of this plan."""
        request = {
            "request": "run", "id": plan.id, "models": list(plan.models), "cycles": plan.cycles, "warmup_cycles": plan.warmup_cycles,
            "min_call_ns": plan.min_call_ns,
        }  # fmt: skip
        reply = self._ask(request, self._timeout_s, f"running visit {plan.id!r}")
        try:
            samples = np.array(reply["samples_ns"])
            if samples.shape != (len(plan.models), plan.cycles) or samples.dtype.kind != "i" or reply["id"] != plan.id:
                raise ValueError(f"samples {samples.dtype} {samples.shape} of {reply['id']!r}")
            before, after = DeviceState.from_dict(reply["state_before"]), DeviceState.from_dict(reply["state_after"])
            return Visit(plan.id, samples.astype(np.int64), before, after, self.name, reply["repeats"])
        except (KeyError, TypeError, ValueError) as error:
            wanted = f"{len(plan.models)} lists of {plan.cycles} positive integers and two states"
            raise self._channel.failed(f"answered visit {plan.id!r} with what is not {wanted}: {error}") from None

    def outputs(self, model: str, inputs_path: str, outputs_path: str, batches: int) -> None:
        """Write the model's outputs for the inputs in one .npy file of the device to another."""
        request = {"request": "outputs", "model": model, "inputs_path": inputs_path, "outputs_path": outputs_path}
        self._ask(request, self._timeout_s * max(1, batches), f"running {batches} batches")

    def _ask(self, request: dict[str, Any], timeout_s: float, doing: str) -> dict[str, Any]:
        reply = self._channel.ask(request, timeout_s, doing)
        if reply["reply"] != "error":
            return reply
        kind, message = reply.get("kind"), reply.get("message")
        if kind == "runtime_missing":
            raise RuntimeMissing(f"device {self._device!r}: {message}")
        if kind == "unreachable":
            raise DeviceUnreachable(f"device {self._device!r}: {message}")
        if kind == "refused":
            raise DeviceError(f"device {self._device!r}: {message}")
        raise self._channel.failed(f"failed while {doing}: {message}")
