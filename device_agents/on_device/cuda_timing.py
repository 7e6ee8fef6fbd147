"""The timed loop on an NVIDIA GPU: CUDA events around each run, read once the device has finished.

A cycle begins with an idle device. Where the queue is held, the device first waits while the host queues the whole cycle,
as nvbench does it: events then tell what the device takes, whatever launching costs. Without, they tell what a program sees
that launches each operation by itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from .gpu_state import GpuStateReader

PROBES = 3  # calls from whose fastest the repeats of a short one follow
SHORTEST_HOLD_NS = 20_000
HOLD_FACTOR = 2  # times what queueing takes
HOLD_ATTEMPTS = 5  # to queue a cycle before the device begins it; each holds twice as long
UNKNOWN_CLOCK_KHZ = 2_000_000  # near what GPUs have; holding takes clocks, not seconds
WAKING_CYCLES = 10  # between two looks at the clock


class CudaTimer:
    """Times runs on the current stream of `cuda` (torch.cuda); `flush`, where given, is queued before each run, untimed.

    With `hold` the queue is held: for runs that are launched at once, as captured graphs are.
    """

    def __init__(self, cuda: Any, state: GpuStateReader, *, hold: bool, flush: Callable[[], object] | None = None,
                 host_clock: Callable[[], int] = time.perf_counter_ns) -> None:  # fmt: skip
        self._cuda, self._state, self._hold, self._flush, self._host_clock = cuda, state, hold, flush, host_clock
        self._hold_ns = 0
        self._clock_khz = state.clock_maxima_khz()[0] or UNKNOWN_CLOCK_KHZ

    def timed_cycles(self, runs: list[Callable[[], object]], cycles: int, warmup_cycles: int, min_call_ns: int = 0) -> tuple[list[list[int]], int]:
        """Return the nanoseconds of every call, one list for each of `runs`, and how often a call ran its one; see `timed_loop.timed_cycles`.

        The clock is noted when the warm-up ends and after the last cycle.
        """
        repeats = 1
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._wake(runs, warmup_cycles)
            if min_call_ns and len(runs) == 1:
                pairs = self._pairs(1)
                repeats = -(-min_call_ns // min(self._cycle(runs, pairs)[0] for _ in range(PROBES)))
                runs = [_repeated(runs[0], repeats)] if repeats > 1 else runs
                self._hold_ns = 0
            pairs = self._pairs(len(runs))
            self._cycle(runs, pairs)  # the first finds how long queueing takes
            self._state.note_load()
            rows = [self._cycle(runs, pairs) for _ in range(cycles)]
            self._state.note_load()
        finally:
            if collecting:
                gc.enable()
        return [[row[i] for row in rows] for i in range(len(runs))], repeats

    def _wake(self, runs: list[Callable[[], object]], warmup_cycles: int) -> None:
        def work(cycles: int = WAKING_CYCLES) -> None:
            for _ in range(cycles):
                for run in runs:
                    run()
            self._cuda.synchronize()

        self._hold_ns = 0
        work(warmup_cycles)
        self._state.wake(work)

    def _pairs(self, count: int) -> list[tuple[Any, Any]]:
        return [(self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)) for _ in range(count)]

    def _cycle(self, runs: list[Callable[[], object]], pairs: list[tuple[Any, Any]]) -> list[int]:
        """Return the nanoseconds of each run of one cycle; one that the device began before it was queued whole is made again."""
        for _ in range(HOLD_ATTEMPTS if self._hold else 1):
            if self._hold and self._hold_ns:
                self._cuda._sleep(self._hold_ns * self._clock_khz // 1_000_000)
            began_ns = self._host_clock()
            for run, (start, end) in zip(runs, pairs):  # noqa: B905 - `strict` came with Python 3.10
                if self._flush is not None:
                    self._flush()
                start.record()
                run()
                end.record()
            queueing_ns = self._host_clock() - began_ns
            in_time = not pairs[0][0].query()
            self._cuda.synchronize()
            if in_time:
                break
            self._hold_ns = max(SHORTEST_HOLD_NS, HOLD_FACTOR * queueing_ns, HOLD_FACTOR * self._hold_ns)
        return [max(1, round(start.elapsed_time(end) * 1e6)) for start, end in pairs]


def _repeated(run: Callable[[], object], repeats: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(repeats):
            run()

    return call
