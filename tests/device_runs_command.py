"""`profiler` as a program of its own, with the presets of `device_runs.measure_little`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import pytest  # noqa: E402
from device_runs import measure_little  # noqa: E402

from profiler.cli.main import main  # noqa: E402

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        main()
