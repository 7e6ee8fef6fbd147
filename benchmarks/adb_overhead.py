"""The cost of distance: how much of a collection's wall time over a real adbd is spent inside the timed runner, for blocks of a millisecond.

    python benchmarks/adb_overhead.py [VISITS, 200] [BLOCK_MS, 1]

Visits are those of a block alone in the full preset; the runner is the native stand-in of the tests, which is busy for the
block's time. Needs what `make test-devices` needs. The limit is 90 %; it ends with exit code 1 below.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from android_runner_builds import model, runner  # noqa: E402
from real_adbd import missing, real_adbd  # noqa: E402

from device_agents.adb import AdbAgent  # noqa: E402
from device_agents.android.discovery import open_transport  # noqa: E402
from device_agents.base import VisitPlan  # noqa: E402
from profiler.measuring.settings import preset  # noqa: E402

LIMIT = 0.90
MODELS = 40  # different ones, sent as one file


def main() -> int:
    """Return the exit code."""
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    block_ms = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    reason = missing()
    if reason is not None:
        print(f"not run: {reason}")
        return 0
    settings = preset("full")
    models = {f"block {number}": model(block_ms) for number in range(MODELS)}
    plans = [VisitPlan(str(number), (f"block {number % MODELS}",), settings.alone_runs, settings.alone_warmup) for number in range(visits)]
    below = False
    with tempfile.TemporaryDirectory() as folder, real_adbd() as device:
        for name, chosen in (("as set by default", {}), ("exactly the planned runs", {"least_s": 0.0, "warmup_s": 0.0})):
            transport = open_transport(f"tcp:{device.serial}", device.key)
            with AdbAgent("benchmark", transport=transport, runner=str(runner(Path(folder))), cores=[0], **chosen) as agent:  # type: ignore[arg-type]
                agent.info()
                begin_s = time.monotonic()
                made = list(agent.measure(models, plans))
                wall_s = time.monotonic() - begin_s
            timed_s = sum(int(visit.samples_ns.sum()) for visit in made) / 1e9
            share = agent.in_runner_s / wall_s
            print(f"{name}: {len(made)} visits of {block_ms:g} ms blocks in {wall_s:.1f} s, {100 * share:.1f} % of it in the runner "
                  f"({100 * timed_s / wall_s:.1f} % in its timed runs), {1000 * (wall_s - agent.in_runner_s) / len(made):.1f} ms a visit outside; "
                  f"ratio to the limit of {100 * LIMIT:.0f} %: {share / LIMIT:.2f}")  # fmt: skip
            below |= not chosen and share < LIMIT
    return int(below)


if __name__ == "__main__":
    sys.exit(main())
