"""What the two YAML formats share: a mapping of block key → {count, mean (milliseconds), std or var}.

`count` is the number of samples a mean rests on, 0 where a figure was not measured; `std` and `var` are of one sample.
The file is read event by event and nothing is built from its tags, anchors or types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from luts.formats.base import MOST_ROWS, TableContent, TableFileError, TableFormat, decoded_text
from luts.formats.block_keys import Family, block_of, key_of
from luts.formats.values import number, whole
from luts.table import Entry, LatencyTable

SPREADS = ("std", "var")
EXPANDS = ("channels", "ratio")
NAMED_BLOCKS = 3


@dataclass(frozen=True)
class LookupYaml(TableFormat):
    """One file a resolution. Written with `spread` as std or var and `expand` as channels or ratio; read with any of them.

    Raises:
        ValueError: an option has another value.
    """

    spread: str
    expand: str
    suffix: ClassVar[str] = ".yaml"
    file_a_resolution: ClassVar[bool] = True
    family: ClassVar[Family]

    def __post_init__(self) -> None:
        for name, known in (("spread", SPREADS), ("expand", EXPANDS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(known)}")

    def holds(self, entry: Entry) -> bool:
        """Return whether there is a key that says all of the entry's block."""
        return self._key(entry) is not None

    def not_held(self, table: LatencyTable) -> list[str]:
        """Return what of the table the format cannot hold."""
        entries = table.entries.values()
        found = ["the condition (device, runtime, threads, ...) and the mode are left out: give them again when importing"]
        without = [entry.block.key for entry in entries if not self.holds(entry)]
        if without:
            named = ", ".join(without[:NAMED_BLOCKS]) + (", ..." if len(without) > NAMED_BLOCKS else "")
            found.append(f"{len(without)} blocks are left out, for which the format has no key: {named}")
        if any(entry.samples == 0 for entry in entries):
            found.append("figures that were not measured have count 0; their origin is left out")
        found.append(
            f"mean is the table's figure, of measured blocks a low percentile; {self.spread} is of one sample, from the figure's standard error"
        )
        if table.networks():
            found.append(f"the {len(table.networks())} whole networks measured beside the blocks are left out")
        return found

    def encode(self, table: LatencyTable) -> bytes:
        """Return the table's file.

        Raises:
            ValueError: the format has no key for any block of the table.
        """
        keyed = {self._key(entry): entry for entry in table.entries.values()}
        values = {key: self._figures(entry) for key, entry in keyed.items() if key is not None}
        if not values:
            raise ValueError(f"the format has no key for any of the {len(keyed)} blocks; export the table as csv, parquet or json")
        module = _yaml()
        text: str = module.dump(values, Dumper=getattr(module, "CSafeDumper", module.SafeDumper), default_flow_style=False)
        return text.encode()

    def _key(self, entry: Entry) -> str | None:
        return key_of(entry.block, self.family, self.expand)

    def _figures(self, entry: Entry) -> dict[str, float]:
        variance = ((entry.relative_spread or 0.0) * entry.latency_ms) ** 2 * entry.samples
        return {"count": entry.samples, "mean": entry.latency_ms, self.spread: variance if self.spread == "var" else variance**0.5}

    def decode(self, content: bytes) -> TableContent:
        """Return what a file holds; its figures' origin is "imported".

        Raises:
            TableFileError: it is no such file.
        """
        return TableContent(tuple(_entry(key, values, self.family) for key, values in _mappings(decoded_text(content)).items()))


def _entry(key: str, values: dict[str, str], family: Family) -> Entry:
    block = block_of(key, family)
    try:
        spread = [name for name in SPREADS if name in values]
        if set(values) != {"count", "mean", *spread} or len(spread) != 1:
            raise TableFileError(f"its values are {', '.join(sorted(values))[:200] or 'none'}; expected count, mean and one of std and var")
        count, mean_ms, deviation = whole(values["count"], "count"), number(values["mean"], "mean"), number(values[spread[0]], spread[0])
        variance = deviation if spread == ["var"] else deviation**2
        relative = (variance / count) ** 0.5 / mean_ms if count > 1 and mean_ms and variance else None
        return Entry(block, mean_ms, "imported", relative, visits=0, samples=count)
    except (ValueError, OverflowError) as error:
        raise TableFileError(f"{key}: {error}") from None


def _mappings(text: str) -> dict[str, dict[str, str]]:
    """Return the text of a mapping of mappings, scalars as they are written.

    Raises:
        TableFileError: it is something else.
    """
    module = _yaml()
    try:
        return _built(module.parse(text, Loader=getattr(module, "CSafeLoader", module.SafeLoader)), module)
    except module.YAMLError as error:
        raise TableFileError(f"it is no YAML: {' '.join(str(error).split())[:200]}") from None


def _built(events: Iterator[Any], module: Any) -> dict[str, dict[str, str]]:
    for kind in (module.StreamStartEvent, module.DocumentStartEvent, module.MappingStartEvent):
        _checked(next(events), kind)
    found: dict[str, dict[str, str]] = {}
    while isinstance(event := next(events), module.ScalarEvent):
        _checked(next(events), module.MappingStartEvent)
        values: dict[str, str] = {}
        while isinstance(inner := next(events), module.ScalarEvent):
            _put(values, inner, _checked(next(events), module.ScalarEvent).value)
        _checked(inner, module.MappingEndEvent)
        _put(found, event, values)
        if len(found) > MOST_ROWS:
            raise TableFileError(f"it has more than {MOST_ROWS} blocks")
    _checked(event, module.MappingEndEvent)
    for kind in (module.DocumentEndEvent, module.StreamEndEvent):
        _checked(next(events), kind)
    return found


def _checked(event: Any, kind: type) -> Any:
    if not isinstance(event, kind):
        raise TableFileError(f"line {event.start_mark.line + 1} is not as expected: one mapping of each block's key to count, mean and std (or var)")
    return event


def _put(values: dict[str, Any], key: Any, value: Any) -> None:
    if key.value in values:
        raise TableFileError(f"line {key.start_mark.line + 1} has {key.value[:200]!r} for the second time")
    values[key.value] = value


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML tables need the package 'pyyaml'; install it with pip install 'elastic-latency[tables]'") from error
    return yaml
