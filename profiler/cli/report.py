"""`profiler report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, BadOptionError, file_to_write


def command(
    out: Annotated[Path, typer.Option("--out", callback=file_to_write, help="HTML page to write.")],
    run: Annotated[Path | None, typer.Option("--run", help="Folder of `profiler run`; its files are taken.")] = None,
    table: Annotated[Path | None, typer.Option("--table", help="Latency table (.lut), when there is no run.")] = None,
    subnet: Annotated[Path | None, typer.Option("--subnet", help="Subnet file, exported and verified or not.")] = None,
    accuracy: Annotated[
        list[Path] | None, typer.Option("--accuracy", help="Folder of a fitted accuracy predictor; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page: MACs against measured latency, predictions, the chosen subnet, trust checks. Works offline.

    \b
    Example: profiler report --table cpu.lut --subnet exported/subnet.json --out report.html
    """
    from dataclasses import asdict

    from profiler.cli.output import print_json, say
    from profiler.report.page import write_report
    from profiler.reporting import ReportFiles, files_of_run, report_data

    if (run is None) == (table is None):
        raise BadOptionError("a report needs a run's folder (--run FOLDER) or a latency table (--table FILE), one of the two")
    folders = tuple(accuracy or ())
    files = files_of_run(run) if run is not None else ReportFiles(table or Path(), subnet, None, folders, folders[0] if folders else None)
    data = report_data(files)
    write_report(data, out)
    if as_json:
        print_json({"report": str(out), "files": files.to_dict(), **asdict(data)})
    else:
        say(f"the report is {out}")
