"""What a GPU in use says of its clock, temperature and throttling, beside what the Linux device that holds it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .nvml import SLOWED, Gpu
from .system_state import StateReader

SLOWEST_CLOCK = 0.75  # of the reference clock: what nvbench drops samples below
WAKING_S = 2.0  # most time for an idle GPU to reach its clock; it takes some hundred milliseconds


class GpuStateReader(StateReader):
    """Reads the state of a GPU; `gpu` is None where the driver cannot tell: then clock, temperature and throttling are None too.

    `frequency_khz` is the clock of the multiprocessors, and after a visit the lowest that was read while it ran. Nothing is
    deleted: a visit in which that was under 75 % of the reference clock comes back whole, with `throttled` set in the state
    after it, and so does one in which heat, or too little power, slowed the GPU. `throttled` is set too where the cores that
    launch the work are.

    The reference is `clock_limits_khz` (of one element), by default what the GPU names: see `Gpu.reference_clock_khz`.
    """

    def __init__(self, cores: list[int], gpu: Gpu | None, clock_limits_khz: list[int | None] | None = None,
                 clock: Callable[[], int] = time.time_ns, root: str = "/") -> None:  # fmt: skip
        super().__init__(cores, root=root, clock=clock)
        self._gpu = gpu
        self.clock_limits_khz = clock_limits_khz or [None if gpu is None else gpu.reference_clock_khz()]
        self._under_load_khz: list[int] = []
        self._slowed_under_load = False
        self._too_hot_ns = None if gpu is None else gpu.too_hot_ns()

    def read(self) -> dict[str, Any]:
        """Return the fields of a DeviceState; what was noted under load since the reading before is in it, and forgotten."""
        under_load_khz, self._under_load_khz = self._under_load_khz, []
        slowed, self._slowed_under_load = self._slowed_under_load, False
        state = super().read()
        gpu = self._gpu
        if gpu is None:
            return {**state, "frequency_khz": None, "temperature_c": None, "throttled": None}
        too_hot_ns, reasons = gpu.too_hot_ns(), gpu.reasons()
        got_too_hot = too_hot_ns is not None and self._too_hot_ns is not None and too_hot_ns > self._too_hot_ns
        self._too_hot_ns = too_hot_ns
        signs = [slowed, got_too_hot, *([] if reasons is None else [bool(reasons & SLOWED)]), *map(self._too_slow, under_load_khz)]
        able = reasons is not None or bool(under_load_khz)
        return {
            **state,
            "frequency_khz": min(under_load_khz, default=gpu.clock_khz()),
            "temperature_c": gpu.temperature_c(),
            "throttled": any(signs) or bool(state["throttled"]) if able else state["throttled"],
        }

    def clock_maxima_khz(self) -> list[int | None]:
        """Return the highest clock that the GPU is built for."""
        return [None if self._gpu is None else self._gpu.highest_clock_khz()]

    def note_load(self) -> None:
        """Note the clock, and what slows it, while the GPU is at work; the next reading tells."""
        if self._gpu is None:
            return
        clock_khz = self._gpu.clock_khz()
        if clock_khz is not None:
            self._under_load_khz.append(clock_khz)
        self._slowed_under_load |= bool((self._gpu.reasons() or 0) & SLOWED)

    def wake(self, work: Callable[[], object], now_s: Callable[[], float] = time.monotonic) -> None:
        """Give the GPU work until it has its clock, or shows that it will not; an idle one has a fraction of it."""
        end_s = now_s() + WAKING_S
        while self._gpu is not None and self._too_slow(self._gpu.clock_khz()) and now_s() < end_s:
            work()

    def _too_slow(self, clock_khz: int | None) -> bool:
        reference_khz = self.clock_limits_khz[0]
        return clock_khz is not None and reference_khz is not None and clock_khz < SLOWEST_CLOCK * reference_khz
