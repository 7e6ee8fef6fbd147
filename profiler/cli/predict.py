"""`profiler predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, predictor_folder


def command(
    subnet: Annotated[Path, typer.Option("--subnet", help="Subnet file, or a plain architecture (space, values).")],
    table: Annotated[str | None, typer.Option("--table", help="Latency table (.lut) to predict from.")] = None,
    latency: Annotated[Path | None, typer.Option("--latency", help="Folder of a fitted latency predictor.")] = None,
    accuracy: Annotated[Path | None, typer.Option("--accuracy", callback=predictor_folder, help="Folder of a fitted accuracy predictor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an architecture costs: MACs, parameters, predicted latency and accuracy. Measures nothing.

    \b
    Example: profiler predict --subnet subnet.json --table cpu.lut --accuracy predictor/
    """
    from dataclasses import asdict

    from profiler.cli.output import print_json, print_table
    from profiler.predicting import predict
    from profiler.subnet import read_subnet

    found = predict(read_subnet(subnet).architecture, table, latency, accuracy)
    if as_json:
        print_json(asdict(found))
        return
    rows = [("MACs", f"{found.macs / 1e6:.2f} M", "counted"), ("parameters", f"{found.parameters / 1e6:.2f} M", "counted")]
    for name, latency_ms in found.latencies_ms.items():
        limits = found.intervals_ms.get(name)
        between = "" if limits is None else f", 90 % between {limits[0]:.4f} and {limits[1]:.4f}"
        rows.append((f"latency, {name}", f"{latency_ms:.4f} ms{between}", "predicted"))
    if unmeasured := found.unmeasured():
        rows.append(("blocks' own figures", unmeasured, "table"))
    if found.accuracy is not None:
        rows.append(("accuracy", f"{found.accuracy:.2%}", "predicted"))
    print_table(f"Prediction for {subnet}", ("what", "value", "origin"), rows)
