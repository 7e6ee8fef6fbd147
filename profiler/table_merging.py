"""Two latency tables into one: the workflow behind `profiler table merge`."""

from __future__ import annotations

import shutil
from pathlib import Path

from luts.merging import MergeSummary, merge_into
from luts.store import MeasurementStore, StoreBusyError
from luts.table import LatencyTable
from profiler.new_table import new_table_file


def merge_tables(first: Path, second: str | Path, out: Path) -> MergeSummary:
    """Make a table file of two, with every visit of both.

    Raises:
        FileExistsError: there is a file at `out` already.
        StoreError: the conditions differ, or the files contradict each other.
        StoreBusyError: the first is being written.
    """
    for table in (first, second):
        LatencyTable.open(table)  # what is no table is refused before anything is written
    if any(first.with_name(first.name + suffix).exists() for suffix in ("-wal", "-journal")):
        raise StoreBusyError(f"{first} is being written by another process, or one died doing so; wait until it has ended, or collect on into it")
    with new_table_file(out) as path, MeasurementStore(second, read_only=True) as other:
        shutil.copyfile(first, path)
        with MeasurementStore(path) as store:
            return merge_into(store, other, str(first))
