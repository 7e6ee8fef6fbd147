"""Other tools' files into latency tables: the workflow behind `profiler table import`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luts.condition import Condition
from luts.estimates import NANOSECONDS_A_MILLISECOND
from luts.formats import FORMATS, create
from luts.formats.base import TableContent, TableFileError, TableFormat
from luts.formats.pooling import pooled
from luts.records import Figure, Subject
from luts.store import MeasurementStore
from luts.table import Entry, LatencyTable, NetworkMeasurement
from profiler.files import sha256_of
from profiler.new_table import new_table_file
from supernets.spaces import space as search_space

MOST_BYTES = 2**28  # of a file to import: hundreds of times a table of the largest space
NEEDED = ("device", "runtime", "threads", "batch")  # of a condition; the rest may stay unknown
UNKNOWN = {"runtime_version": "unknown", "delegate": "unknown", "cores": (), "precision": "unknown", "cpu_model": "unknown"}


def format_of(name: str | None, path: Path, **options: str) -> tuple[str, TableFormat]:
    """Return a format by its name, or by the ending of a file.

    Raises:
        UnknownFormatError, ValueError: there is none of that name, the ending says nothing, or an option is wrong.
    """
    if name is None:
        name = path.suffix.removeprefix(".")
        if name not in FORMATS:
            raise ValueError(f"the ending of {path} says no format; name one with --format: {', '.join(FORMATS)}")
    return name, create(name, **options)


@dataclass(frozen=True)
class Imported:
    """The table file made, and how many blocks and whole networks it holds."""

    path: Path
    blocks: int
    networks: int


def import_table(
    source: Path, out: Path, name: str, form: TableFormat, given: Mapping[str, Any], mode: str | None = None, space: str | None = None
) -> Imported:
    """Make a table file of others' figures: a file, or a folder of files where the format has one a resolution.

    `given` are fields of the condition, for files that do not say theirs; they may not contradict one that does.

    Raises:
        FileNotFoundError: there is no such file.
        FileExistsError: there is a file at `out` already.
        TableFileError: a file is no table of the format.
        ValueError: the condition is not known or contradicted; an unknown mode or space.
    """
    files = _source_files(source, form)
    contents = [_content(file, name, form) for file in files]
    first = contents[0]
    condition = _condition(first.condition, given, source)
    mode = _agreed("mode", first.mode, mode, source) or "chain"
    space = _agreed("space", first.space, space, source)
    if space is not None:
        search_space(space)
    entries = pooled(entry for content in contents for entry in content.entries)
    LatencyTable(condition, mode, entries)  # refuses what no table can be
    origin = [{"format": name, "file": file.name, "sha256": sha256_of(file)} for file in files]
    with new_table_file(out) as path, MeasurementStore(path) as store:
        store.set_condition(condition)
        store.set_provenance({"imported": origin})
        if space is not None:
            store.set_collection({"space": space})
        store.add_subjects([*(Subject.of_block(entry.block) for entry in entries), *(_network_subject(network) for network in first.networks)])
        store.set_figures([*(_block_figure(entry, mode, name) for entry in entries), *(_network_figure(n, condition) for n in first.networks)])
    return Imported(out, len(entries), len(first.networks))


def _source_files(source: Path, form: TableFormat) -> list[Path]:
    if source.is_dir() and form.file_a_resolution:
        files = sorted(source.glob(f"*{form.suffix}"))
        if not files:
            raise FileNotFoundError(f"the folder {source} has no {form.suffix} files; expected a lookup table a resolution")
        return files
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}; expected a latency table to import")
    return [source]


def _content(file: Path, name: str, form: TableFormat) -> TableContent:
    if file.stat().st_size > MOST_BYTES:
        raise TableFileError(f"{file} has {file.stat().st_size} bytes, no latency table has more than {MOST_BYTES}; give the table alone")
    try:
        return form.decode(file.read_bytes())
    except TableFileError as error:
        raise TableFileError(f"{file} cannot be read as {name}: {error}") from None


def _condition(known: Condition | None, given: Mapping[str, Any], source: Path) -> Condition:
    if known is not None:
        for field, value in given.items():
            _agreed(field, getattr(known, field), value, source)
        return known
    missing = [field for field in NEEDED if field not in given]
    if missing:
        options = ", ".join(f"--{field}" for field in missing)
        raise ValueError(f"{source} does not say under which condition it was measured; say it with {options} (and what else is known of it)")
    return Condition(**{**UNKNOWN, **given})


def _agreed(field: str, known: Any, given: Any, source: Path) -> Any:
    if None not in (known, given) and known != given:
        raise ValueError(f"{source} was measured with {field} {known!r}, but {given!r} was given; leave the option out")
    return given if known is None else known


def _block_figure(entry: Entry, mode: str, name: str) -> Figure:
    return Figure(
        entry.block.key, mode, entry.latency_ms * NANOSECONDS_A_MILLISECOND, entry.relative_spread,
        {"format": name}, entry.origin, entry.visits, entry.samples,
    )  # fmt: skip


def _network_subject(network: NetworkMeasurement) -> Subject:
    spec = {
        "name": network.name, "blocks": [block.to_dict() for block in network.blocks],
        "architecture": None if network.architecture is None else network.architecture.to_dict(),
    }  # fmt: skip
    return Subject(network.key, "network", network.role, spec)


def _network_figure(network: NetworkMeasurement, condition: Condition) -> Figure:
    halves = [None if np.isnan(half) else half for half in network.halves_ms]
    return Figure(
        network.key, "network", network.latency_ms * NANOSECONDS_A_MILLISECOND, network.relative_spread, {"halves_ms": halves},
        condition.origin, network.visits, network.samples,
    )  # fmt: skip
