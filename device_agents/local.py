"""This machine as a device: the same archive that is shipped to others, run by a Python of this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from device_agents import archive
from device_agents.base import DeviceAgent, DeviceInfo, Visit, VisitPlan, models_of_plans
from device_agents.on_device.runtimes import runtime_class
from device_agents.private_folder import private_folder
from device_agents.worker_client import WorkerClient
from device_agents.worker_process import WorkerProcess

TIMEOUT_S = 120.0  # of one visit or one model's loading; visits take milliseconds to seconds, so this is for hangs


class LocalAgent(DeviceAgent):
    """Times models on this machine, in a fresh worker process for each `measure`, pinned to `cores` ([] does not pin).

    Raises (constructor):
        ValueError: a setting is out of range or unknown.
    """

    setting_names: ClassVar[tuple[str, ...]] = ("runtime", "threads", "cores", "batch", "precision", "python", "timeout_s")

    def __init__(self, device: str = "local", *, runtime: str = "onnxruntime", threads: int = 1, cores: Sequence[int] | None = None, batch: int = 1,
                 precision: str = "float32", python: str | None = None, timeout_s: float = TIMEOUT_S,
                 worker_archive: bytes | None = None) -> None:  # fmt: skip
        self.device = device
        self.runtime = runtime
        self.model_format = runtime_class(runtime).model_format
        self.threads = _whole("threads", threads, 1)
        self.batch = _whole("batch", batch, 1)
        self.cores = default_cores(threads) if cores is None else tuple(_whole("cores", core, 0) for core in cores)
        if self.cores and len(set(self.cores)) < threads:
            raise ValueError(f"threads is {threads}, but cores are {list(self.cores)}; give each thread a core, or cores = [] not to pin")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s!r}; expected seconds above 0")
        self.precision = precision
        self.python = python or sys.executable
        self.timeout_s = timeout_s
        self._archive = archive.pack() if worker_archive is None else worker_archive
        self._info: DeviceInfo | None = None
        self._clock_limits_khz: Sequence[int | None] | None = None  # when the session began
        self._processes: set[WorkerProcess] = set()

    def info(self) -> DeviceInfo:
        """Return what a worker says of this machine; asked once, with its preflight in `extra`."""
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
        with self._worker() as (worker, folder):
            for name in names:
                _load(worker, name, models[name], folder)
            for plan in plans:
                yield worker.run(plan)

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the model's first output for `inputs` (n, ...), in the model's own layout."""
        if not len(inputs) or len(inputs) % self.batch:
            raise ValueError(f"{len(inputs)} inputs were given; expected a multiple of the batch {self.batch}")
        with self._worker() as (worker, folder):
            _load(worker, "model", model, folder)
            given, result = folder / "inputs.npy", folder / "outputs.npy"
            np.save(given, inputs, allow_pickle=False)
            worker.outputs("model", str(given), str(result), len(inputs) // self.batch)
            outputs: np.ndarray[Any, Any] = np.load(result, allow_pickle=False)
        return outputs

    def close(self) -> None:
        """End workers that still run."""
        for process in list(self._processes):
            process.close()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[tuple[WorkerClient, Path]]:
        """Give a fresh worker and its private folder; both are gone afterwards, however it ends."""
        with private_folder() as folder, contextlib.ExitStack() as stack:
            program = folder / "worker.pyz"
            program.write_bytes(self._archive)
            process = WorkerProcess([self.python, "-I", str(program)], self.device)
            self._processes.add(process)
            stack.callback(self._processes.discard, process)
            stack.callback(process.close)
            worker = WorkerClient(process, self.device, runtime=self.runtime, threads=self.threads, cores=self.cores, batch=self.batch,
                                  precision=self.precision, timeout_s=self.timeout_s, clock_limits_khz=self._clock_limits_khz)  # fmt: skip
            yield worker, folder
            process.quit()


def default_cores(threads: int) -> tuple[int, ...]:
    """Return the last cores this process may use, one a thread; interrupts and other work favour the first.

    Raises:
        ValueError: there are fewer cores than threads, or this system cannot tell.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("this system cannot tell which cores may be used; set cores = [] for the device to measure unpinned")
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ValueError(f"threads is {threads}, but this process may use only the cores {allowed}; use at most {len(allowed)} threads")
    return tuple(allowed[-threads:])


def _load(worker: WorkerClient, name: str, model: bytes, folder: Path) -> None:
    path = folder / "model"
    path.write_bytes(model)
    worker.load(name, str(path))
    path.unlink()  # the runtime has read or mapped it


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value
