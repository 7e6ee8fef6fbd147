"""A GPU by NVIDIA in this machine: the packed worker as for the CPU, with a runtime that runs, times and watches the GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar

from device_agents.base import Check
from device_agents.local import LocalAgent
from device_agents.on_device.nvml import Gpu, GpuNotThere, chosen_gpu, names_of
from device_agents.on_device.runtimes import RuntimeNotInstalled
from device_agents.private_folder import private_folder
from device_agents.worker_agent import TIMEOUT_S, Place, whole
from device_agents.worker_client import WorkerClient

TENSORRT = "onnxruntime-tensorrt"
# runtimes and the settings that are theirs
SWITCHES = {
    "torch-cuda": ("cuda_graphs", "l2_flush", "channels_last"),
    "onnxruntime-cuda": ("cuda_graphs",),
    TENSORRT: ("cuda_graphs",),
}


class CudaAgent(LocalAgent):
    """Times models on a GPU of this machine, in a fresh worker process for each `measure`; `threads` and `cores` are those that launch.

    `gpu` is an index as nvidia-smi counts, or a UUID; without one it is the first of CUDA_VISIBLE_DEVICES, or GPU 0.
    `cuda_graphs` (on), `l2_flush` and `channels_last` (off) become part of the delegate's name, and with it of the condition.
    `clock_mhz` is the clock that the GPU is locked to, where it is: visits clocked below 75 % of it, or without it of the
    clock that the driver names, come back marked as throttled.

    Raises (constructor):
        ValueError: a setting is out of range or unknown, or the runtime lacks it or does not run on a GPU.
    """

    setting_names: ClassVar[tuple[str, ...]] = (
        "runtime", "threads", "cores", "batch", "precision", "python", "timeout_s", "gpu", "cuda_graphs", "l2_flush", "channels_last", "clock_mhz",
    )  # fmt: skip

    def __init__(self, device: str = "local-gpu", *, runtime: str = "torch-cuda", threads: int = 1, cores: Sequence[int] | None = None,
                 batch: int = 1, precision: str = "float32", python: str | None = None, timeout_s: float = TIMEOUT_S, gpu: int | str = "",
                 cuda_graphs: bool | None = None, l2_flush: bool | None = None, channels_last: bool | None = None, clock_mhz: int | None = None,
                 worker_archive: bytes | None = None) -> None:  # fmt: skip
        if runtime not in SWITCHES:
            raise ValueError(f"runtime {runtime!r} does not run on an NVIDIA GPU; expected one of {', '.join(SWITCHES)}")
        super().__init__(device, runtime=runtime, threads=threads, cores=cores, batch=batch, precision=precision, python=python,
                         timeout_s=timeout_s, worker_archive=worker_archive)  # fmt: skip
        if isinstance(gpu, bool) or not isinstance(gpu, (int, str)) or (isinstance(gpu, int) and gpu < 0):
            raise ValueError(f"gpu is {gpu!r}; expected an index such as 0, or a UUID such as 'GPU-...'")
        self.gpu = str(gpu)
        if clock_mhz is not None:
            self._clock_limits_khz = [1000 * whole("clock_mhz", clock_mhz, 1)]
        switches = {"cuda_graphs": cuda_graphs, "l2_flush": l2_flush, "channels_last": channels_last}
        self.runtime_options.update({"gpu": self.gpu, **_given(switches, runtime)})
        self._engines = ExitStack()

    def checks(self) -> Iterator[Check]:
        """Yield whether the driver answers, what the GPU is and who else computes on it, and then what `LocalAgent` proves."""
        try:
            gpu = Gpu(chosen_gpu(self.gpu, dict(os.environ)))
        except (GpuNotThere, RuntimeNotInstalled) as error:
            yield Check("driver", False, f"device {self.device!r}: {error}")
            return
        yield Check("driver", True, f"version {gpu.driver_version or 'unknown'}")
        described = gpu.describe()
        yield Check("GPU", True, f"{gpu.name}, {described['gpu_uuid']}, compute capability {described['compute_capability'] or 'unknown'}")
        for check in super().checks():
            yield check
            if check.passed is False:
                return
        reasons = names_of(gpu.reasons())
        yield Check("clock reasons", None, "not readable" if reasons is None else ", ".join(reasons) or "none")
        others = gpu.other_processes()
        text = "not readable" if others is None else f"processes {', '.join(map(str, others))} compute on it; end them first" if others else "none"
        yield Check("other processes", None if others is None else not others, text)

    def close(self) -> None:
        """End workers that still run, and remove TensorRT's engines."""
        super().close()
        self._engines.close()
        self.runtime_options.pop("engines", None)

    @contextmanager
    def _worker(self) -> Iterator[tuple[WorkerClient, Place]]:
        if self.runtime == TENSORRT and "engines" not in self.runtime_options:  # made once a session: that takes seconds to minutes each
            self.runtime_options["engines"] = str(self._engines.enter_context(private_folder()))
        with super()._worker() as found:
            yield found


def _given(switches: dict[str, bool | None], runtime: str) -> dict[str, bool]:
    """Return the switches that were given.

    Raises:
        ValueError: one is neither true nor false, or the runtime lacks it.
    """
    given = {name: value for name, value in switches.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; expected true or false")
        if name not in SWITCHES[runtime]:
            raise ValueError(f"{name} was given, and runtime {runtime!r} has only {', '.join(SWITCHES[runtime])}")
    return given
