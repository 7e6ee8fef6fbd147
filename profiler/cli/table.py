"""`profiler table show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.options import AsJson

if TYPE_CHECKING:
    from luts.table import Entry

app = typer.Typer(help="Look into latency tables.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """A group with one command so far would otherwise lose the command's name."""


@app.command("show")
def show(
    table: Annotated[Path, typer.Argument(help="Latency table (.lut) of `profiler collect`.")],
    mode: Annotated[str, typer.Option("--mode", help="chain (as inside a network) or alone.")] = "chain",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Blocks to show, slowest first; by default 20, and all as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a table's condition and its slowest blocks, each with MACs beside measured latency.

    \b
    Example: profiler table show cpu.lut --limit 10
    """
    from luts.table import LatencyTable
    from profiler.cli.output import print_json, print_table
    from supernets.counts import block_macs

    opened = LatencyTable.open(table, mode)
    entries = sorted(opened.entries.values(), key=lambda entry: -entry.latency_ms)
    shown = entries[: limit or (len(entries) if as_json else 20)]
    if as_json:
        rows = [{"key": e.block.key, "latency_ms": e.latency_ms, "origin": e.origin, "relative_spread": e.relative_spread, "visits": e.visits,
                 "samples": e.samples, "macs": block_macs(e.block)} for e in shown]  # fmt: skip
        print_json({"condition": opened.condition.to_dict(), "mode": mode, "space": opened.space, "entries": rows})
        return
    print_table(f"Condition of {table}", ("what", "value"), [(key, _shown(value)) for key, value in opened.condition.to_dict().items()])
    print_table(
        f"Slowest {len(shown)} of {len(entries)} blocks ({mode})",
        ("block", "ms", "± %", "origin", "visits", "MMACs", "ns a kMAC"),
        [_row(entry, block_macs(entry.block)) for entry in shown],
    )


def _row(entry: Entry, macs: int) -> tuple[object, ...]:
    spread = "" if entry.relative_spread is None else f"{100 * entry.relative_spread:.1f}"
    cost = f"{1e9 * entry.latency_ms / macs:.0f}" if macs else ""
    return (entry.block.key, f"{entry.latency_ms:.4f}", spread, entry.origin, entry.visits, f"{macs / 1e6:.2f}", cost)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
