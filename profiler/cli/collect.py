"""`profiler collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import (
    AsJson,
    BadOptionError,
    Cores,
    DeviceName,
    Resolutions,
    Runtime,
    Seed,
    SpaceName,
    Threads,
    parse_cores,
    store_to_write,
    typed,
)


def command(
    space: SpaceName,
    out: Annotated[Path | None, typer.Option("--out", help="Latency table to write, or to go on with (.lut).")] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="A store on a server instead, postgresql://USER@HOST/DATABASE?schema=NAME, for several collectors at once."),
    ] = None,
    device: DeviceName = "local",
    resolutions: Resolutions = None,
    runtime: Runtime = None,
    threads: Threads = None,
    cores: Cores = None,
    devices_file: Annotated[Path | None, typer.Option("--devices", help="A TOML file with devices of your own.")] = None,
    preset: Annotated[str, typer.Option("--preset", help="full, or quick for tiny spaces and first looks.")] = "full",
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds of visits; more than before adds to a finished table.")] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            "--time-budget", help="Time for all sessions of the file together, such as 90s, 10m or 1h; spent where figures are least certain."
        ),
    ] = None,
    thin: Annotated[bool, typer.Option("--thin", help="Measure some resolutions in full, and interpolate the blocks of the others.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure every block of a search space on a device, and whole networks to calibrate and to judge by.

    Killed, the same command goes on where it was; finished, it does nothing.

    \b
    Example: profiler collect --device local --space ofa-mobilenetv3-w1.2 --resolutions 128:224:4 --runtime onnxruntime --out cpu.lut
    """
    from device_agents.devices import connect
    from profiler.cli.duration import parse_duration_s
    from profiler.cli.output import print_json, progress_bar, say
    from profiler.collecting import collect_table, space_to_measure
    from profiler.measuring.settings import preset as preset_of_protocol

    if (out is None) == (store is None):
        raise BadOptionError("a table is collected into a file (--out FILE) or into a store on a server (--store URL); give one of them")
    if store is not None and "://" not in store:
        raise BadOptionError(f"--store {store!r} is not the URL of a server; expected postgresql://USER@HOST/DATABASE, and for a file --out")
    place = store if out is None else store_to_write(out)
    with typed():
        preset_of_protocol(preset)
        budget_s = None if time_budget is None else parse_duration_s(time_budget)
        measured_space = space_to_measure(space, resolutions)
        agent = connect(device, runtime=runtime, threads=threads, cores=parse_cores(cores), devices_file=devices_file)
    with agent, progress_bar("measuring") as report:
        result = collect_table(measured_space, agent, place or "", preset, seed, report, rounds, budget_s, thin)
    if as_json:
        print_json(result.to_dict())
        return
    say(result.sentence())
    if result.thinned is not None:
        say(result.thinned.sentence())
    if ending := result.ending():
        say(ending)
    for warning in result.warnings:
        say(f"warning ({warning.caution.code}): {warning.text}" if warning.caution else warning.text)
