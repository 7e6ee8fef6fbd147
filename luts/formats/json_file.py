"""JSON: all that a table holds, whole networks too. Numbers that are not known are null."""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

from luts.formats.base import TableContent, TableFileError, TableFormat, decoded_text
from luts.formats.values import (
    ENTRY_FIELDS,
    condition_of,
    entry_of,
    entry_values,
    field_names,
    made,
    mapping,
    no_others,
    number,
    optional_number,
    sequence,
    text,
    whole,
)
from luts.table import LatencyTable, NetworkMeasurement
from supernets.blocks import BlockSpec
from supernets.space import Architecture

KIND = "elastic-latency table"
VERSION = 1
_FIELDS = ["kind", "version", "condition", "mode", "space", "entries", "networks"]
_NETWORK_FIELDS = field_names(NetworkMeasurement)


class JsonFile(TableFormat):
    """One table in one JSON file."""

    suffix: ClassVar[str] = ".json"

    def not_held(self, table: LatencyTable) -> list[str]:
        """Return nothing: the format holds all that a table has."""
        return []

    def encode(self, table: LatencyTable) -> bytes:
        """Return the table's file."""
        values = {
            "kind": KIND, "version": VERSION, "condition": table.condition.to_dict(), "mode": table.mode, "space": table.space,
            "entries": [entry_values(entry) for entry in table.entries.values()],
            "networks": [_network_values(network) for network in table.networks()],
        }  # fmt: skip
        return (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def decode(self, content: bytes) -> TableContent:
        """Return what a file holds.

        Raises:
            TableFileError: it is no such file, or of a newer version.
        """
        try:
            found = mapping(json.loads(decoded_text(content)), "the whole")
        except (json.JSONDecodeError, RecursionError) as error:
            raise TableFileError(f"it is no JSON: {error}") from None
        except ValueError as error:  # TableFileError among them; and integers of thousands of digits
            raise TableFileError(str(error)) from None
        if found.get("kind") != KIND:
            raise TableFileError(f"kind is not {KIND!r}; expected a file of `profiler table export --format json`")
        if whole(found.get("version"), "version") != VERSION:
            raise TableFileError(f"version is {found['version']}, expected {VERSION}; read it with the release that wrote it, or newer")
        no_others(found, _FIELDS)
        space = found.get("space")
        networks = tuple(_network(mapping(values, "a network")) for values in sequence(found.get("networks"), "networks"))
        if len({network.key for network in networks}) < len(networks):
            raise TableFileError("two networks have one key; networks have different keys")
        return TableContent(
            tuple(_entry(mapping(values, "an entry")) for values in sequence(found.get("entries"), "entries")),
            condition_of(mapping(found.get("condition"), "condition")),
            text(found.get("mode"), "mode"),
            None if space is None else text(space, "space"),
            networks,
        )


def _entry(values: dict[str, Any]) -> Any:
    no_others(values, ENTRY_FIELDS)
    return entry_of(values)


def _network_values(network: NetworkMeasurement) -> dict[str, Any]:
    values = {name: getattr(network, name) for name in _NETWORK_FIELDS}
    values["architecture"] = None if network.architecture is None else network.architecture.to_dict()
    values["blocks"] = [block.to_dict() for block in network.blocks]
    values["halves_ms"] = [None if math.isnan(half) else half for half in network.halves_ms]
    return values


def _network(values: dict[str, Any]) -> NetworkMeasurement:
    no_others(values, _NETWORK_FIELDS)
    halves = [optional_number(half, "halves_ms") for half in sequence(values.get("halves_ms"), "halves_ms")]
    if len(halves) != 2:
        raise TableFileError(f"halves_ms has {len(halves)} values; expected 2")
    first, second = (math.nan if half is None else half for half in halves)
    architecture, blocks = _architecture(values.get("architecture")), _blocks(values)
    network = made(NetworkMeasurement, values, architecture=architecture, blocks=blocks, halves_ms=(first, second))
    if not network.latency_ms > 0 or not blocks:
        raise TableFileError(f"network {network.name!r} has {len(blocks)} blocks and latency_ms {network.latency_ms}; expected more than 0")
    return network


def _blocks(values: dict[str, Any]) -> tuple[BlockSpec, ...]:
    blocks = [mapping(block, "a block") for block in sequence(values.get("blocks"), "blocks")]
    return tuple(made(BlockSpec, block) for block in blocks)


def _architecture(values: Any) -> Architecture | None:
    if values is None:
        return None
    for name, value in mapping(mapping(values, "architecture").get("values"), "values").items():
        if value is not None and not isinstance(value, str):
            number(value, name)
    try:
        return Architecture.from_dict(values)
    except ValueError as error:
        raise TableFileError(str(error)) from None
