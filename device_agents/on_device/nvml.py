"""What an NVIDIA GPU says of itself through NVML, the driver's library: None where it cannot say, never 0.

`pynvml` (package nvidia-ml-py) is imported when a GPU is looked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import MutableMapping
from typing import Any

from .runtimes import not_installed

# bits of the clocks' event reasons, which NVML called throttle reasons before
REASONS = {
    0x1: "idle", 0x2: "application clocks set", 0x4: "software power cap", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown", 0x80: "hardware power brake", 0x100: "display clock set",
    0x200: "board limit", 0x400: "reliability",
}  # fmt: skip
SLOWED = 0x8 | 0x20 | 0x40 | 0x80  # too hot or under-powered. A power cap holds most GPUs a little below their highest clock all the time: no sign


class GpuNotThere(RuntimeError):
    """No driver answers, it knows no such GPU, or CUDA cannot use it."""


def chosen_gpu(gpu: str = "", environment: MutableMapping[str, str] = os.environ) -> str:
    """Return the index (in order of the bus) or UUID of the GPU asked for, and let CUDA see only that one.

    Without one it is the first of CUDA_VISIBLE_DEVICES, and without that GPU 0. Must come before CUDA starts in this process.
    """
    chosen = gpu or environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts; CUDA's own order begins with the fastest
    environment["CUDA_VISIBLE_DEVICES"] = chosen
    return chosen


class Gpu:
    """One GPU, by its index or its UUID.

    Raises (constructor):
        RuntimeNotInstalled: nvidia-ml-py is not there.
        GpuNotThere: no driver answers, or it knows no such GPU.
    """

    def __init__(self, gpu: str = "0") -> None:
        self._nvml = _nvml()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise GpuNotThere(f"no NVIDIA driver answers ({error}); install and load it, until nvidia-smi lists the GPU") from error
        self.driver_version: str | None = self._value("nvmlSystemGetDriverVersion")
        self._handle = self._found(gpu)
        self.name: str | None = self._own("nvmlDeviceGetName")

    def _found(self, gpu: str) -> Any:
        try:
            return self._nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdecimal() else self._nvml.nvmlDeviceGetHandleByUUID(gpu)
        except self._nvml.NVMLError as error:
            count = self._value("nvmlDeviceGetCount") or 0
            handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            listed = ", ".join(f"{index} ({self._value('nvmlDeviceGetName', handle)})" for index, handle in enumerate(handles)) or "none"
            raise GpuNotThere(f"GPU {gpu!r} was not found ({error}); the driver lists {listed}; set `gpu` of the device") from error

    def clock_khz(self) -> int | None:
        """Return the clock of the multiprocessors at this moment."""
        return _khz(self._own("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM))

    def highest_clock_khz(self) -> int | None:
        """Return the highest clock that the GPU is built for."""
        return _khz(self._own("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM))

    def reference_clock_khz(self) -> int | None:
        """Return the clock it shall have under load: the application clock as set or by default, else the boost clock, else the highest."""
        sm = self._nvml.NVML_CLOCK_SM
        for call in ("nvmlDeviceGetApplicationsClock", "nvmlDeviceGetDefaultApplicationsClock", "nvmlDeviceGetMaxCustomerBoostClock"):
            clock_khz = _khz(self._own(call, sm))
            if clock_khz is not None:
                return clock_khz
        return self.highest_clock_khz()

    def reasons(self) -> int | None:
        """Return the bits of REASONS that hold the clock where it is."""
        bits: int | None = self._own("nvmlDeviceGetCurrentClocksEventReasons")
        return self._own("nvmlDeviceGetCurrentClocksThrottleReasons") if bits is None else bits

    def too_hot_ns(self) -> int | None:
        """Return for how long, since the driver was loaded, heat has kept the clock down."""
        violation = self._own("nvmlDeviceGetViolationStatus", self._nvml.NVML_PERF_POLICY_THERMAL)
        return None if violation is None else int(violation.violationTime)

    def temperature_c(self) -> float | None:
        """Return the temperature of the chip."""
        degrees = self._own("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU)
        return float(degrees) if degrees else None

    def other_processes(self) -> list[int] | None:
        """Return the ids of other processes that compute on the GPU; those that only draw on it do not count."""
        running = self._own("nvmlDeviceGetComputeRunningProcesses")
        return None if running is None else sorted({process.pid for process in running} - {os.getpid()})

    def describe(self) -> dict[str, Any]:
        """Return what may explain a figure: driver, identity, clocks, power, persistence."""
        limit_mw = self._own("nvmlDeviceGetEnforcedPowerLimit")
        persistence = self._own("nvmlDeviceGetPersistenceMode")
        capability = self._own("nvmlDeviceGetCudaComputeCapability")
        return {
            "driver_version": self.driver_version,
            "gpu_uuid": self._own("nvmlDeviceGetUUID"),
            "gpu_reference_clock_khz": self.reference_clock_khz(),
            "gpu_highest_clock_khz": self.highest_clock_khz(),
            "gpu_clock_reasons": names_of(self.reasons()),
            "gpu_power_limit_w": limit_mw / 1000 if limit_mw else None,
            "gpu_persistence": None if persistence is None else bool(persistence),
            "compute_capability": None if capability is None else ".".join(map(str, capability)),
        }

    def _own(self, call: str, *arguments: Any) -> Any:
        return self._value(call, self._handle, *arguments)

    def _value(self, call: str, *arguments: Any) -> Any:
        """Return what NVML answers; None where it, or this GPU, cannot."""
        function = getattr(self._nvml, call, None)  # older packages lack the newest
        try:
            return None if function is None else function(*arguments)
        except self._nvml.NVMLError:
            return None


def names_of(reasons: int | None) -> list[str] | None:
    """Return the names of these bits, in order; None where there are none to read."""
    return None if reasons is None else [name for bit, name in REASONS.items() if reasons & bit]


def _khz(clock_mhz: int | None) -> int | None:
    return clock_mhz * 1000 if clock_mhz else None


def _nvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise not_installed("reading the clocks of an NVIDIA GPU", "nvidia-ml-py", "cuda", error) from error
