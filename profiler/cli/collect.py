"""`profiler collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.device_options import Address, Batch, Cluster, Delegate, DevicesFile, Precision, Runner, Set, device_names, settings_of
from profiler.cli.options import (
    MOST_ROUNDS,
    AsJson,
    BadOptionError,
    Cores,
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
    out: Annotated[
        Path | None, typer.Option("--out", help="Latency table to write, or to go on with (.lut); of several devices the folder for theirs.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="A store on a server instead, postgresql://USER@HOST/DATABASE?schema=NAME, for several collectors at once."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Device, or several to measure side by side, such as pixel1,local; `profiler devices` lists them.")
    ] = "local",
    resolutions: Resolutions = None,
    runtime: Runtime = None,
    threads: Threads = None,
    cores: Cores = None,
    address: Address = None,
    runner: Runner = None,
    cluster: Cluster = None,
    delegate: Delegate = None,
    precision: Precision = None,
    batch: Batch = None,
    assignments: Set = None,
    devices_file: DevicesFile = None,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Ray cluster whose hosts the devices hang on: HOST:PORT, auto, or local for one on this machine.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="full, or quick for tiny spaces and first looks.")] = "full",
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=MOST_ROUNDS, help="Rounds of visits; more than before adds to a finished table.")
    ] = None,
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

    Several devices are measured side by side, each at its own pace and into its own table. Killed, the same command goes on
    where it was; finished, it does nothing.

    \b
    Example: profiler collect --device local --space ofa-mobilenetv3-w1.2 --resolutions 128:224:4 --runtime onnxruntime --out cpu.lut
    """
    from device_agents.devices import find_device, open_device
    from profiler.cli.collected import collect_from_several, say_result
    from profiler.cli.duration import parse_duration_s
    from profiler.cli.output import print_json, progress_bar
    from profiler.farm_jobs import Collection, Job, collect_job

    if (out is None) == (store is None):
        raise BadOptionError("a table is collected into a file (--out FILE) or into a store on a server (--store URL); give one of them")
    if store is not None and "://" not in store:
        raise BadOptionError(f"--store {store!r} is not the URL of a server; expected postgresql://USER@HOST/DATABASE, and for a file --out")
    names = device_names(device)
    common = {
        "runtime": runtime, "threads": threads, "cores": parse_cores(cores), "address": address, "runner": runner, "cluster": cluster,
        "delegate": delegate, "precision": precision, "batch": batch,
    }  # fmt: skip
    settings = settings_of(names, assignments, **common)
    with typed():
        budget_s = None if time_budget is None else parse_duration_s(time_budget)
        collection = Collection(space, resolutions, preset, seed, rounds, budget_s, thin)
        collection.check()
        devices = [find_device(name, settings[name], devices_file) for name in names]
    if len(devices) > 1 or ray is not None:
        collect_from_several(devices, collection, out, store, ray, as_json)
        return
    place = store if out is None else store_to_write(out)
    with typed():
        agent = open_device(devices[0])
    with agent, progress_bar("measuring") as report:
        result = collect_job(Job(devices[0], place or "", collection), agent, report)
    if as_json:
        print_json(result.to_dict())
    else:
        say_result(result)
