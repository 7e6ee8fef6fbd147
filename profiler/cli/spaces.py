"""`profiler spaces`."""

from __future__ import annotations

from typing import Annotated

import typer

from profiler.cli.options import AsJson, typed


def command(
    name: Annotated[str | None, typer.Argument(help="A space, to see only that one (options allowed).")] = None, as_json: AsJson = False
) -> None:
    """List the search spaces: how many networks, which resolutions, how many blocks to measure.

    \b
    Example: profiler spaces ofa-mobilenetv3-w1.2
    """
    from profiler.cli.output import print_json, print_table
    from profiler.overview import space_overview
    from supernets.spaces import names

    with typed():
        rows = [space_overview(each) for each in ([name] if name else names())]
    if as_json:
        print_json(rows)
        return
    print_table(
        "Search spaces (MACs: multiply-adds, counted once)",
        ("space", "networks", "resolutions", "blocks to measure", "MMACs", "largest, M parameters"),
        [(r["space"], f"{r['networks']:.3g}", r["resolutions"], r["distinct_blocks"], f"{r['min_macs'] / 1e6:.1f} to {r['max_macs'] / 1e6:.1f}",
          f"{r['max_parameters'] / 1e6:.2f}") for r in rows],
    )  # fmt: skip
