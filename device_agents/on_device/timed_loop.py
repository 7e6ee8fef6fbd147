"""The timed loop: what lies between the two readings of the clock is one call, and garbage collection is off."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def timed_cycles(runs: list[Callable[[], object]], cycles: int, warmup_cycles: int,
                 clock: Callable[[], int] = time.perf_counter_ns) -> list[list[int]]:  # fmt: skip
    """Return the nanoseconds of every call, one list for each of `runs`; a cycle calls each of them once, in order."""
    samples = [[0] * cycles for _ in runs]
    rows = [(run, samples[i]) for i, run in enumerate(runs)]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(warmup_cycles):
            for run in runs:
                run()
        for cycle in range(cycles):
            for run, row in rows:
                start = clock()
                run()
                row[cycle] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return samples
