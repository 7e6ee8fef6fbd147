"""Damages transcripts of benchmark_model at random for some minutes and prints what the parser made of them.

    python benchmarks/fuzz_benchmark_model.py [MINUTES, 5] [SEED, 0]

The limit: no exception but BenchmarkError, no time of zero. It ends with exit code 1 at the first that breaks it, and prints it.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from test_device_agents_android_benchmark_model import NAMES, check_mutant, mutated, transcript  # noqa: E402

from device_agents.android.benchmark_model import DELEGATES  # noqa: E402


def main() -> int:
    """Return the exit code."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rng = random.Random(seed)
    transcripts = [transcript(name) for name in NAMES]
    results = errors = 0
    slowest_s = 0.0
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < 60 * minutes:
        stdout, stderr = rng.choice(transcripts)
        stdout, stderr, delegate = mutated(stdout, rng), mutated(stderr, rng), rng.choice([None, *DELEGATES])
        start_s = time.monotonic()
        try:
            found = check_mutant(stdout, stderr, delegate)
        except Exception as error:
            print(f"broken by {type(error).__name__}: {error}\ndelegate={delegate!r}\nstdout={stdout!r}\nstderr={stderr!r}")
            return 1
        slowest_s = max(slowest_s, time.monotonic() - start_s)
        results, errors = results + (found is not None), errors + (found is None)
    print(f"{results + errors} damaged transcripts in {time.monotonic() - begin_s:.0f} s, seed {seed}: {errors} refused in one sentence, {results} "
          f"still read as a time, 0 other exceptions, 0 times of zero; the slowest took {slowest_s * 1000:.1f} ms")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
