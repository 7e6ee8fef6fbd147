"""`profiler fit latency` and `profiler fit accuracy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, Resolutions, Seed

app = typer.Typer(help="Fit predictors of latency or of accuracy.", no_args_is_help=True, rich_markup_mode=None)


@app.command("latency")
def latency(
    table: Annotated[Path, typer.Option("--table", help="Latency table (.lut) with whole networks in it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictor.")],
    space: Annotated[str | None, typer.Option("--space", help="Search space; the table's own by default.")] = None,
    resolutions: Resolutions = None,
    as_json: AsJson = False,
) -> None:
    """Fit the latency predictors on a table's networks, judge them on others, save the calibrated one.

    \b
    Example: profiler fit latency --table cpu.lut --out latency/
    """
    from profiler.cli.output import print_json
    from profiler.cli.tables import print_latency_qualities
    from profiler.fitting import fit_latency, space_of_table

    qualities = fit_latency(space_of_table(table, space, resolutions), table, out)
    if as_json:
        print_json({name: quality.to_dict() for name, quality in qualities.items()})
    else:
        print_latency_qualities(qualities)


@app.command("accuracy")
def accuracy(
    samples: Annotated[Path, typer.Option("--samples", help="File of sampled accuracies of `profiler sample`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictors, one folder each.")],
    models: Annotated[str, typer.Option("--models", help="Which predictors to fit.")] = "ridge,mlp,xgboost",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit accuracy predictors on sampled subnets and judge each on subnets it has not seen.

    \b
    Example: profiler fit accuracy --samples accuracies.db --out predictors/
    """
    from profiler.cli.output import print_json, progress_bar
    from profiler.cli.tables import print_accuracy_qualities
    from profiler.fitting import fit_accuracy

    with progress_bar("fitting") as report:
        qualities = fit_accuracy(samples, out, seed, report, tuple(filter(None, models.split(","))))
    if as_json:
        print_json({name: quality.to_dict() for name, quality in qualities.items()})
    else:
        print_accuracy_qualities(qualities)
