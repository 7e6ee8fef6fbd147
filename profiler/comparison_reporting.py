"""Two latency tables → the data of the page that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luts.table import LatencyTable
from profiler.report.comparison import ComparisonData, comparison_data
from profiler.reporting import made
from profiler.table_comparing import compare_opened


def compared_tables(paths: Sequence[str | Path], mode: str = "chain", space: str | None = None) -> ComparisonData:
    """Return how the tables in two files compare; random networks are of the named space, or of the one both tables are of.

    Raises:
        ValueError, OSError: a file is missing or of another kind, or the tables have no block in common.
    """
    one, two = (LatencyTable.open(path, mode) for path in paths)
    return comparison_data(one, two, compare_opened(one, two, space), *made())
