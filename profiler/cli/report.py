"""`profiler report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option("--out", help="HTML page to write.")],
    run: Annotated[Path | None, typer.Option("--run", help="Folder of `profiler run`; its files are taken.")] = None,
    table: Annotated[Path | None, typer.Option("--table", help="Latency table (.lut), when there is no run.")] = None,
    subnet: Annotated[Path | None, typer.Option("--subnet", help="Subnet file, exported and verified or not.")] = None,
    accuracy: Annotated[
        list[Path] | None, typer.Option("--accuracy", help="Folder of a fitted accuracy predictor; may be given several times.")
    ] = None,
) -> None:
    """Write one HTML page: MACs against measured latency, predictions, the chosen subnet, trust checks. Works offline.

    \b
    Example: profiler report --table cpu.lut --subnet exported/subnet.json --out report.html
    """
    from profiler.cli.output import say
    from profiler.report.page import write_report
    from profiler.reporting import ReportFiles, files_of_run, report_data

    if (run is None) == (table is None):
        raise ValueError("a report needs a run's folder (--run FOLDER) or a latency table (--table FILE), one of the two")
    folders = tuple(accuracy or ())
    files = files_of_run(run) if run is not None else ReportFiles(table or Path(), subnet, None, folders, folders[0] if folders else None)
    write_report(report_data(files), out)
    say(f"the report is {out}")
