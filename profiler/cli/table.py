"""`profiler table show | export | import | merge | compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.options import AsJson, Seed, file_to_write, parse_cores, typed

if TYPE_CHECKING:
    from luts.table import Entry

app = typer.Typer(help="Look into latency tables.", no_args_is_help=True, rich_markup_mode=None)
TablePlace = Annotated[str, typer.Argument(help="Latency table: a file (.lut), or the URL of a store.")]
Mode = Annotated[str, typer.Option("--mode", help="chain (as inside a network) or alone.")]
Format = Annotated[
    str | None, typer.Option("--format", help="ofa-yaml, proxyless-yaml, csv, parquet or json; by default what the file's ending says.")
]
SpaceOfTable = Annotated[str | None, typer.Option("--space", help="Search space the table is of, where it does not say so itself.")]


@app.command("show")
def show(
    table: TablePlace,
    mode: Mode = "chain",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Blocks to show, slowest first; by default 20, and all as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a table's condition and its slowest blocks, each with MACs beside measured latency.

    \b
    Example: profiler table show cpu.lut --limit 10
    """
    from dataclasses import asdict

    from luts.store import MeasurementStore
    from luts.table import LatencyTable
    from profiler.cli.output import print_json, print_table, say
    from profiler.measuring.thinned import thinned_table
    from supernets.counts import block_macs

    opened = LatencyTable.open(table, mode)
    with MeasurementStore(table, read_only=True) as store:
        imported = store.provenance().get("imported", [])
        thinned = thinned_table(store)
    entries = sorted(opened.entries.values(), key=lambda entry: -entry.latency_ms)
    shown = entries[: limit or (len(entries) if as_json else 20)]
    if as_json:
        rows = [{"key": e.block.key, "latency_ms": e.latency_ms, "origin": e.origin, "relative_spread": e.relative_spread, "visits": e.visits,
                 "samples": e.samples, "macs": block_macs(e.block)} for e in shown]  # fmt: skip
        told = {"imported": imported, "thinned": None if thinned is None else asdict(thinned)}
        print_json({"condition": opened.condition.to_dict(), "mode": mode, "space": opened.space, **told, "entries": rows})
        return
    files = [("imported from", f"{file['file']} ({file['format']}, SHA-256 {file['sha256'][:12]}...)") for file in imported]
    print_table(f"Condition of {table}", ("what", "value"), [*((key, _shown(value)) for key, value in opened.condition.to_dict().items()), *files])
    print_table(
        f"Slowest {len(shown)} of {len(entries)} blocks ({mode})",
        ("block", "ms", "± %", "origin", "visits", "MMACs", "ns a kMAC"),
        [_row(entry, block_macs(entry.block)) for entry in shown],
    )
    if thinned is not None:
        say(thinned.sentence())


@app.command("export")
def export(
    table: TablePlace,
    out: Annotated[Path, typer.Option("--out", help="File to write; for the YAML formats a folder, with one file a resolution.")],
    format: Format = None,
    mode: Mode = "chain",
    space: SpaceOfTable = None,
    spread: Annotated[str | None, typer.Option("--spread", help="YAML formats: std or var.")] = None,
    expand: Annotated[str | None, typer.Option("--expand", help="YAML formats: expand as channels or as ratio.")] = None,
) -> None:
    """Write a table in another tool's format, and say what the format cannot hold.

    \b
    Example: profiler table export cpu.lut --format ofa-yaml --out cpu_tables/
    """
    from profiler.cli.output import say
    from profiler.table_exporting import export_table
    from profiler.table_importing import format_of

    options = {name: value for name, value in (("spread", spread), ("expand", expand)) if value is not None}
    with typed():
        form = format_of(format, out, **options)[1]
    done = export_table(table, out if out.is_dir() else file_to_write(out), form, mode, space)
    say(f"{out} holds {done.blocks} blocks" + (f" in {len(done.files)} files" if len(done.files) > 1 else ""))
    for sentence in done.not_held:
        say(f"note: {sentence}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="File to read; for the YAML formats also a folder of them, one a resolution.")],
    out: Annotated[Path, typer.Option("--out", help="Latency table (.lut) to write.")],
    format: Format = None,
    mode: Annotated[str | None, typer.Option("--mode", help="chain or alone, where the file does not say so; chain by default.")] = None,
    space: SpaceOfTable = None,
    device: Annotated[str | None, typer.Option("--device", help="Where it was measured, in any words.")] = None,
    runtime: Annotated[str | None, typer.Option("--runtime", help="What ran the blocks, such as tflite.")] = None,
    runtime_version: Annotated[str | None, typer.Option("--runtime-version", help="Its version; unknown by default.")] = None,
    delegate: Annotated[str | None, typer.Option("--delegate", help="What it ran them with; unknown by default.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime.")] = None,
    cores: Annotated[str | None, typer.Option("--cores", help="Processor cores it ran on, such as 1 or 0,1; unknown by default.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Images at a time.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="Such as float32; unknown by default.")] = None,
    cpu_model: Annotated[str | None, typer.Option("--cpu-model", help="The processor; unknown by default.")] = None,
) -> None:
    """Make a latency table of another tool's file; every command that takes a table takes it.

    \b
    Example: profiler table import note10/ --format ofa-yaml --device note10 --runtime tflite --threads 1 --batch 1 --out note10.lut
    """
    from profiler.cli.output import say
    from profiler.table_importing import format_of, import_table

    given = {"device": device, "runtime": runtime, "runtime_version": runtime_version, "delegate": delegate, "threads": threads,
             "cores": parse_cores(cores), "batch": batch, "precision": precision, "cpu_model": cpu_model}  # fmt: skip
    name, form = format_of(format, source)
    done = import_table(source, out, name, form, {field: value for field, value in given.items() if value is not None}, mode, space)
    say(f"{out} holds {done.blocks} blocks" + (f" and {done.networks} whole networks" if done.networks else ""))


@app.command("merge")
def merge(
    first: Annotated[Path, typer.Argument(help="Latency table (.lut).")],
    second: Annotated[str, typer.Argument(help="Another one, of the same condition: a file, or the URL of a store.")],
    out: Annotated[Path, typer.Option("--out", help="Latency table (.lut) to write.")],
) -> None:
    """Make one table of two that were measured under the same condition: all raw samples of both.

    \b
    Example: profiler table merge monday.lut tuesday.lut --out cpu.lut
    """
    from profiler.cli.output import say
    from profiler.table_merging import merge_tables

    done = merge_tables(first, second, out)
    same = f", {done.visits_before} were in {first} already" if done.visits_before else ""
    figures = f" and {done.figures} figures without samples" if done.figures else ""
    say(f"{out} holds {first}, and {done.visits} visits{figures} of {second}{same}")


@app.command("compare")
def compare(
    first: TablePlace,
    second: Annotated[str, typer.Argument(help="Latency table to compare with it.")],
    mode: Mode = "chain",
    space: Annotated[
        str | None, typer.Option("--space", help="Search space whose random networks are ranked; by default the one both tables are of.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of the blocks that differ most to show.")] = 10,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two tables: ratios block by block, and whether they rank random networks alike.

    \b
    Example: profiler table compare onnxruntime.lut litert.lut
    """
    from profiler.cli.output import print_json, print_table
    from profiler.table_comparing import compare_tables

    found = compare_tables(first, second, mode, space, limit, seed)
    if as_json:
        print_json(found.to_dict())
        return
    if found.conditions:
        rows = [(name, _shown(one), _shown(two)) for name, (one, two) in found.conditions.items()]
        print_table("Conditions differ", ("what", str(first), str(second)), rows)
    blocks, networks = found.blocks, found.networks
    rows = [(f"{p} %", f"{blocks.ratios[p]:.4f}", f"{100 * blocks.differences[p]:.2f}") for p in blocks.ratios]
    print_table(
        f"{blocks.blocks} blocks in both ({mode}); {blocks.only_first} only in the first, {blocks.only_second} only in the second",
        ("percentile", "second / first", "difference either way, %"),
        rows,
    )
    print_table(
        "Farthest from the median ratio",
        ("block", "first, ms", "second, ms", "second / first"),
        [(each.key, f"{each.first_ms:.4f}", f"{each.second_ms:.4f}", f"{each.ratio:.4f}") for each in blocks.worst],
    )
    if networks is not None:
        agreement = (f"{networks.median_ratio:.4f}", f"{networks.spearman:.4f}", f"{networks.kendall:.4f}")
        print_table(
            f"Sums over {networks.networks} random networks of {networks.space}", ("median second / first", "Spearman", "Kendall"), [agreement]
        )


def _row(entry: Entry, macs: int) -> tuple[object, ...]:
    spread = "" if entry.relative_spread is None else f"{100 * entry.relative_spread:.1f}"
    cost = f"{1e9 * entry.latency_ms / macs:.0f}" if macs else ""
    return (entry.block.key, f"{entry.latency_ms:.4f}", spread, entry.origin, entry.visits, f"{macs / 1e6:.2f}", cost)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
