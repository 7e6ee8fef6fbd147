"""`profiler search`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.device_options import one_device
from profiler.cli.options import MOST_SCORED, AsJson, BadOptionError, Resolutions, Seed, file_to_write, latency_budget, predictor_folder, typed


def command(
    accuracy: Annotated[Path, typer.Option("--accuracy", callback=predictor_folder, help="Folder of a fitted accuracy predictor.")],
    max_latency_ms: Annotated[
        float, typer.Option("--max-latency-ms", callback=latency_budget, help="Latency budget in milliseconds, or the target of another objective.")
    ],
    out: Annotated[Path, typer.Option("--out", callback=file_to_write, help="Subnet file to write.")],
    table: Annotated[str | None, typer.Option("--table", help="Latency table (.lut) of `profiler collect`.")] = None,
    latency: Annotated[Path | None, typer.Option("--latency", help="Folder of a fitted latency predictor, instead of --table.")] = None,
    resolutions: Resolutions = None,
    strategy: Annotated[str, typer.Option("--strategy", help="evolution, coarse-to-fine, rl-controller, random, or exhaustive.")] = "evolution",
    objective: Annotated[
        str, typer.Option("--objective", help="budget, or a reward: soft-product, hard-product (MnasNet), weighted-sum, absolute-deviation.")
    ] = "budget",
    population: Annotated[int, typer.Option("--population", min=1, max=MOST_SCORED, help="Networks a generation.")] = 100,
    generations: Annotated[int, typer.Option("--generations", min=1, max=MOST_SCORED, help="Generations.")] = 500,
    finalists: Annotated[int, typer.Option("--finalists", min=1, max=1000, help="Best networks to keep in the subnet file.")] = 10,
    safety_margin: Annotated[
        float, typer.Option("--safety-margin", min=0, max=10, help="Share added to each predicted latency before it is held against the budget.")
    ] = 0.0,
    device: Annotated[
        str | None, typer.Option("--device", help="Measure the finalists on this device, and take the best one that keeps the budget.")
    ] = None,
    devices_file: Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the subnet of the highest predicted accuracy within a latency budget. Needs no torch but for the RL controller.

    \b
    Example: profiler search --table cpu.lut --accuracy predictor/ --max-latency-ms 12 --out subnet.json
    """
    from profiler.cli.output import print_json, print_table, progress_bar
    from profiler.searching import open_predictors, remeasured, search_subnet
    from profiler.subnet import write_subnet
    from search.rewards import OBJECTIVES
    from search.settings import SearchSettings
    from search.strategies import STRATEGIES

    if population * generations > MOST_SCORED:
        raise BadOptionError(f"--population {population} in --generations {generations} is more than {MOST_SCORED} networks; lower one of them")
    if (table is None) == (latency is None):
        raise BadOptionError("a search needs a latency table (--table FILE) or a fitted latency predictor (--latency FOLDER), one of the two")
    if strategy not in STRATEGIES:
        raise BadOptionError(f"--strategy is {strategy!r}; expected one of {', '.join(sorted(STRATEGIES))}")
    if objective not in OBJECTIVES:
        raise BadOptionError(f"--objective is {objective!r}; expected one of {', '.join(OBJECTIVES)}")
    if objective != "budget" and safety_margin:
        raise BadOptionError(f"--safety-margin {safety_margin:g} is for a budget; leave it away with --objective {objective}, which has a target")
    _refuse_unknown_device(device, devices_file)
    settings = SearchSettings(population_size=population, generations=generations, finalists=finalists)
    predictors = open_predictors(table, latency, accuracy, resolutions, strategy, device)
    with progress_bar("searching") as report:
        record, _ = search_subnet(
            predictors, max_latency_ms, strategy, settings, seed,
            lambda point: report(point.generation, generations, f"{point.accuracy:.2%} at {point.latency_ms:.3f} ms"), safety_margin, objective,
        )  # fmt: skip
    if device is not None:
        with progress_bar("measuring finalists") as report:
            record = remeasured(record, device, out.with_suffix(".finalists.lut"), report, str(time.time_ns()), devices_file)
    write_subnet(out, record)
    if as_json:
        print_json(record.to_dict())
        return
    rows = [("accuracy (predicted)", f"{record.predicted_accuracy:.2%}"), ("latency (predicted)", f"{record.predicted_latency_ms:.3f} ms")]
    if record.measured_latency_ms is not None:
        rows.append((f"latency ({record.device_origin})", f"{record.measured_latency_ms:.3f} ms"))
    rows += [
        ("budget" if objective == "budget" else f"target, {objective}", f"{max_latency_ms:g} ms"),
        ("random networks over that", f"{(record.search or {})['random_networks_over_budget']:.0%}"),
        ("MACs", f"{record.macs / 1e6:.2f} M"),
        ("parameters", f"{record.parameters / 1e6:.2f} M"),
        ("resolution", str(record.architecture["resolution"])),
        ("resolutions searched", ", ".join(map(str, predictors.resolutions))),
        ("subnet file", str(out)),
    ]
    print_table("Best subnet within the budget" if objective == "budget" else f"Best subnet by {objective}", ("what", "value"), rows)


def _refuse_unknown_device(device: str | None, devices_file: Path | None) -> None:
    """Do nothing where the finalists are not measured, or on one device that is known: a search takes minutes."""
    from device_agents.devices import find_device

    if device is not None:
        with typed():
            find_device(one_device(device), devices_file=devices_file)
    elif devices_file is not None:
        raise BadOptionError(f"--devices {devices_file} is for measuring the finalists; leave it out, or name one of its devices with --device")
