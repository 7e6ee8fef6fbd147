"""The timed loop: what lies between the two readings of the clock is one call, and garbage collection is off."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

PROBES = 3  # calls from whose fastest the repeats of a short one follow


def timed_cycles(runs: list[Callable[[], object]], cycles: int, warmup_cycles: int, min_call_ns: int = 0,
                 clock: Callable[[], int] = time.perf_counter_ns) -> tuple[list[list[int]], int]:  # fmt: skip
    """Return the nanoseconds of every call, one list for each of `runs`, and how often a call ran its one; a cycle calls each once, in order.

    A single run that takes less than `min_call_ns` is repeated inside each call until that is reached, as near the cost
    of reading the clock it could not be told from it.
    """
    samples = [[0] * cycles for _ in runs]
    repeats = 1
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(warmup_cycles):
            for run in runs:
                run()
        if min_call_ns and len(runs) == 1:
            repeats = -(-min_call_ns // max(1, min(_timed(runs[0], clock) for _ in range(PROBES))))
            runs = [_repeated(runs[0], repeats)] if repeats > 1 else runs
        rows = [(run, samples[i]) for i, run in enumerate(runs)]
        for cycle in range(cycles):
            for run, row in rows:
                start = clock()
                run()
                row[cycle] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return samples, repeats


def _timed(run: Callable[[], object], clock: Callable[[], int]) -> int:
    start = clock()
    run()
    return clock() - start


def _repeated(run: Callable[[], object], repeats: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(repeats):
            run()

    return call
