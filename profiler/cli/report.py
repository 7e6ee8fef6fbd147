"""`profiler report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from profiler.cli.options import AsJson, BadOptionError, file_to_write


def command(
    out: Annotated[Path, typer.Option("--out", callback=file_to_write, help="HTML page to write.")],
    run: Annotated[Path | None, typer.Option("--run", help="Folder of `profiler run`; its files are taken.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Latency table (.lut), when there is no run.")] = None,
    subnet: Annotated[Path | None, typer.Option("--subnet", help="Subnet file, exported and verified or not.")] = None,
    accuracy: Annotated[
        list[Path] | None, typer.Option("--accuracy", help="Folder of a fitted accuracy predictor; may be given several times.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option("--compare", metavar="TABLE TABLE", help="Two latency tables (.lut) to compare instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page: MACs against measured latency, predictions, the chosen subnet, how far to trust it all. Works offline.

    \b
    Example: profiler report --table cpu.lut --subnet exported/subnet.json --out report.html
    Example: profiler report --compare monday.lut tuesday.lut --out comparison.html
    """
    from profiler.cli.output import print_json, say

    if sum(given is not None for given in (run, table, compare)) != 1:
        raise BadOptionError(
            "a report needs a run's folder (--run FOLDER), a latency table (--table FILE) or two to compare (--compare FILE FILE), one of the three"
        )
    if table is None and (subnet is not None or accuracy):
        raise BadOptionError("--subnet and --accuracy go with --table; a run's folder has its own, and a comparison needs none")
    shown = _compared(compare, out) if compare is not None else _reported(run, table or "", subnet, tuple(accuracy or ()), out)
    if as_json:
        print_json({"report": str(out), **shown})
    else:
        say(f"the report is {out}")


def _compared(tables: tuple[str, str], out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from profiler.comparison_reporting import compared_tables
    from profiler.report.page import write_comparison

    data = compared_tables(tables)
    write_comparison(data, out)
    return asdict(data)


def _reported(run: Path | None, table: str, subnet: Path | None, accuracy: tuple[Path, ...], out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from profiler.report.page import write_report
    from profiler.reporting import ReportFiles, files_of_run, report_data

    files = files_of_run(run) if run is not None else ReportFiles(table, subnet, None, accuracy, accuracy[0] if accuracy else None)
    data = report_data(files)
    write_report(data, out)
    return {"files": files.to_dict(), **asdict(data)}
