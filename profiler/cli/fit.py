"""`profiler fit latency` and `profiler fit accuracy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, BadOptionError, Cores, DeviceName, Resolutions, Runtime, Seed, Threads, folder_to_write, parse_cores, typed

OF_MEASURING = {  # parameters of `fit latency` that only measuring makes use of → options
    "device": "--device", "runtime": "--runtime", "threads": "--threads", "cores": "--cores", "devices_file": "--devices", "seed": "--seed",
}  # fmt: skip

app = typer.Typer(help="Fit predictors of latency or of accuracy.", no_args_is_help=True, rich_markup_mode=None)


@app.command("latency")
def latency(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder for the predictor.")],
    table: Annotated[str | None, typer.Option("--table", help="Latency table (.lut) with whole networks in it.")] = None,
    networks: Annotated[
        int | None, typer.Option("--networks", min=4, max=1000, help="Measure this many networks now, and do without a table.")
    ] = None,
    space: Annotated[str | None, typer.Option("--space", help="Search space; the table's own by default.")] = None,
    resolutions: Resolutions = None,
    device: DeviceName = "local",
    runtime: Runtime = None,
    threads: Threads = None,
    cores: Cores = None,
    devices_file: Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit the latency predictors on a table's networks and save the best, or measure a few networks and fit one that needs no table.

    With a table, cross-validation on its calibration networks chooses, and its held-out networks only judge. Without one, ten
    networks far apart are enough for a model of what computing and moving data costs; each is judged by a fit to the others.

    \b
    Examples:
        profiler fit latency --table cpu.lut --out latency/
        profiler fit latency --networks 10 --space ofa-mobilenetv3-w1.2 --device local --out latency/
    """
    from profiler.cli.output import print_json, progress_bar, say
    from profiler.cli.tables import print_latency_qualities
    from profiler.latency_fitting import fit_latency, fit_latency_without_table, space_of_table

    if (table is None) == (networks is None):
        raise BadOptionError("a latency predictor is fitted to a table (--table FILE) or to networks measured now (--networks 10), one of the two")
    if table is not None:
        _refuse_measuring_options(context)
        fitted = fit_latency(space_of_table(table, space, resolutions), table, out)
    elif space is None:
        raise BadOptionError("--networks draws the networks from a search space; name one with --space")
    else:
        from device_agents.devices import connect
        from profiler.collecting import space_to_measure

        with typed():
            drawn_from = space_to_measure(space, resolutions)
            agent = connect(device, runtime=runtime, threads=threads, cores=parse_cores(cores), devices_file=devices_file)
        with agent, progress_bar("measuring") as report:
            fitted = fit_latency_without_table(drawn_from, agent, networks or 0, out, seed, report)
    for warning in fitted.warnings:
        say(warning.told)
    if as_json:
        print_json({name: quality.to_dict() for name, quality in fitted.qualities.items()})
    else:
        print_latency_qualities(fitted.qualities)
        say(f"saved in {out}: {fitted.saved}")
        for sentence in fitted.sentences():
            say(sentence)


def _refuse_measuring_options(context: typer.Context) -> None:
    given = [option for name, option in OF_MEASURING.items() if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"]
    if given:
        raise BadOptionError(f"{', '.join(given)} is for measuring, and --table FILE measures nothing; leave it out, or give --networks instead")


@app.command("accuracy")
def accuracy(
    samples: Annotated[Path, typer.Option("--samples", help="File of sampled accuracies of `profiler sample`.")],
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder for the predictors, one folder each.")],
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

    wanted = _models(models)
    with progress_bar("fitting") as report:
        qualities = fit_accuracy(samples, out, seed, report, wanted)
    if as_json:
        print_json({name: quality.to_dict() for name, quality in qualities.items()})
    else:
        print_accuracy_qualities(qualities)


def _models(text: str) -> tuple[str, ...]:
    from predictors.accuracy import names

    wanted = tuple(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in wanted if name not in names()]
    if unknown or not wanted:
        what = f"has the unknown {unknown[0]!r}" if unknown else "names none"
        raise BadOptionError(f"--models {text!r} {what}; expected some of {', '.join(names())}")
    return wanted
