"""`profiler verify`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.device_options import Address, Batch, Cluster, Delegate, DevicesFile, Precision, Runner, Set, one_device, settings_of
from profiler.cli.options import AsJson, BadOptionError, Cores, DeviceName, Runtime, Threads, latency_budget, parse_cores, typed


def command(
    subnet: Annotated[Path, typer.Option("--subnet", help="Subnet file that `profiler export` wrote, with its models beside it.")],
    device: DeviceName = "local",
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
    table: Annotated[str | None, typer.Option("--table", help="Latency table of the same condition, to predict from.")] = None,
    latency: Annotated[
        Path | None, typer.Option("--latency", help="Folder of a fitted latency predictor of the same condition, instead of --table.")
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            "--max-latency-ms",
            callback=latency_budget,
            help="Budget; by default the subnet file's own, where this is the condition it was searched for.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure an exported subnet on a device and say whether it keeps its budget. Exit code 1 if it does not.

    \b
    Example: profiler verify --subnet exported/subnet.json --device local --runtime onnxruntime
    """
    from device_agents.devices import connect
    from profiler.cli.output import print_json, progress_bar, say
    from profiler.cli.tables import print_verifications
    from profiler.measuring.session import condition_of
    from profiler.predicting import predicted_latency_ms
    from profiler.subnet import read_subnet
    from profiler.verifying import verify_subnet

    if table is not None and latency is not None:
        raise BadOptionError(f"--table {table} and --latency {latency} were both given to predict from; give one of them")
    device = one_device(device)
    common = {"address": address, "runner": runner, "cluster": cluster, "delegate": delegate, "precision": precision, "batch": batch}
    given = settings_of([device], assignments, **common)[device]
    with typed():
        connected = connect(device, runtime=runtime, threads=threads, cores=parse_cores(cores), devices_file=devices_file, settings=given)
    record = read_subnet(subnet)
    with connected as agent:
        info = agent.info()
        predicted = predicted_latency_ms(record, info, table, latency)
        own_budget = record.max_latency_ms if record.condition in (None, condition_of(info).to_dict()) else None
        budget = own_budget if max_latency_ms is None else max_latency_ms
        with progress_bar("verifying") as report:
            store = subnet.parent / f"verification-{info.runtime}.lut"
            verified = verify_subnet(record, subnet.parent, agent, store, predicted, budget, report, session=str(time.time_ns()))
    record = verified.record
    for warning in verified.warnings:
        say(warning.told)
    if as_json:
        verdicts = [verification.kept for verification in record.verifications]
        print_json([{**v, "kept": kept} for v, kept in zip(record.to_dict()["verifications"], verdicts, strict=True)])
    else:
        print_verifications(record.verifications)
    if record.verifications[-1].kept is False:
        raise typer.Exit(1)
