"""Latency tables into other tools' files: the workflow behind `profiler table export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luts.formats.base import TableFormat
from luts.store import StoreError
from luts.table import LatencyTable
from profiler.coverage import covered_space, resolutions
from supernets.atomic_file import write_whole
from supernets.places import distinct_blocks
from supernets.spaces import space as search_space


@dataclass(frozen=True)
class Exported:
    """Files written, how many blocks they hold, and what they could not hold, a sentence each."""

    files: tuple[Path, ...]
    blocks: int
    not_held: tuple[str, ...]


def export_table(table: str | Path, out: Path, form: TableFormat, mode: str = "chain", space: str | None = None) -> Exported:
    """Write a table as a file of the format, or as a folder of files where the format has one a resolution.

    Raises:
        StoreError: the file is no table, or has no figures of the mode.
        MissingBlockError: a file a resolution, and the table lacks blocks of each.
        ValueError: the format cannot hold any of it.
    """
    opened = LatencyTable.open(table, mode)
    if not opened.entries:
        raise StoreError(f"{table} has no figures of mode {mode}; export another mode")
    parts, left_out = _by_resolution(opened, space) if form.file_a_resolution else ({"": opened}, [])
    files = {}
    for side, part in parts.items():
        files[out / f"{side}_lookup_table{form.suffix}" if form.file_a_resolution else out] = form.encode(part)
    for path, content in files.items():
        write_whole(path, content)
    written = _with(opened, {key for part in parts.values() for key in part.entries})
    blocks = sum(form.holds(entry) for entry in written.entries.values())
    left_out.insert(0, "the raw samples of the visits are left out: a row is a figure, its spread and its counts")
    if opened.alone_ms:
        left_out.append("the figures of mode alone are left out: export them with --mode alone into another file")
    return Exported(tuple(files), blocks, (*left_out, *form.not_held(written)))


def _by_resolution(opened: LatencyTable, name: str | None) -> tuple[dict[str, LatencyTable], list[str]]:
    """Return the part of the table for each resolution it covers, and what is in none of them."""
    if name is None and opened.space is None:
        raise StoreError(f"{opened.source} does not say which space it is of, and this format has a file a resolution; name the space with --space")
    space = search_space(name or opened.space or "")
    covered = covered_space(space, opened)
    keys = {side: {block.key for block in distinct_blocks(covered.restrict({"resolution": (side,)}))} for side in resolutions(covered)}
    parts = {str(side): _with(opened, keys[side]) for side in keys}
    said = []
    strange = set(opened.entries).difference(*keys.values())
    if strange:
        said.append(f"{len(strange)} blocks are left out: no resolution of {space.name} that the table covers whole has them")
    return parts, said


def _with(table: LatencyTable, keys: set[str]) -> LatencyTable:
    entries = [entry for key, entry in table.entries.items() if key in keys]
    return LatencyTable(table.condition, table.mode, entries, table.networks(), table.source, table.space)
