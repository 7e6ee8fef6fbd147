"""Runtimes of other packages. On devices the archive puts the list of those it ships in this file's place."""

from __future__ import annotations

from importlib import metadata

ENTRY_POINT_GROUP = "elastic_latency.runtimes"


def plug_ins() -> dict[str, str]:
    """Return name → "module:Class" of every runtime that an installed package offers."""
    return {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
