"""How commands print: results to standard output as a table or JSON, progress to standard error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from profiler.cli.streams import put, say

__all__ = ["print_json", "print_table", "progress_bar", "put", "say"]

LINE_EVERY_S = 60.0  # where progress is read from a file
NAME_WIDTH = 20  # so much of a row's name is kept on one line where a table is squeezed


def print_json(data: Any) -> None:
    """Print a result as JSON; in ASCII, which every standard output can take."""
    put(json.dumps(data, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a result as a table; columns whose values are numbers are set to the right."""
    from rich.box import ASCII, SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    lines = SIMPLE_HEAD if "utf" in sys.stdout.encoding.lower() else ASCII
    table = Table(title=title, title_justify="left", box=lines)
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) or str(row[i]).lstrip("-±").replace(".", "", 1).replace(" %", "").isdigit() for row in rows)
        whole = min(NAME_WIDTH, max((len(str(row[i])) for row in rows), default=0)) if i == 0 else None
        table.add_column(column, justify="right" if rows and numeric else "left", overflow="fold", min_width=whole)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    terminal, text = sys.stdout.isatty(), io.StringIO()  # not printed by rich, which would exit on a closed pipe
    Console(file=text, force_terminal=terminal, width=None if terminal else 140, highlight=False, markup=False).print(table)
    put(text.getvalue(), end="")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on standard error, or a line a minute where that is no terminal; yields report(done, total, note)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times, TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, told = progress.add_task(what, total=None, note=""), monotonic()

        def report(done: int, total: int, note: str = "") -> None:
            nonlocal told
            progress.update(task, completed=done, total=total, note=note)
            if not console.is_terminal and monotonic() - told >= LINE_EVERY_S:
                told = monotonic()
                say(f"{what}: {done} of {total}{f', {note}' if note else ''}")

        yield report
