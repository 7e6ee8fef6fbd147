"""What every space's table holds, how a user's options change it, and the name that says so.

A space's own table adds its figures; fields named like an option of `SpaceOptions` are what that option changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from supernets.spaces import OWN_OPTIONS, SpaceOptions


@dataclass(frozen=True)
class Table:
    """The fixed figures of one space."""

    name: str
    resolutions: tuple[int, ...]
    resolution_step: int
    image_channels: int
    classes: int


AnyTable = TypeVar("AnyTable", bound=Table)


def with_options(table: AnyTable, options: SpaceOptions) -> AnyTable:
    """Return the table with a user's options put in.

    Raises:
        ValueError: a resolution is not a positive multiple of the table's step, or the space has no such option.
    """
    for side in options.resolutions or ():
        if side < table.resolution_step or side % table.resolution_step:
            raise ValueError(f"resolution {side} does not fit space {table.name!r}; expected a positive multiple of {table.resolution_step}")
    return replace(
        table,
        resolutions=options.resolutions or table.resolutions,
        image_channels=options.image_channels or table.image_channels,
        classes=options.classes or table.classes,
        **_own_options(table, options),
    )


def _own_options(table: Table, options: SpaceOptions) -> Mapping[str, Any]:
    given = {option: getattr(options, option) for option in OWN_OPTIONS if getattr(options, option) is not None}
    known = {field.name for field in fields(table)}
    for option, value in given.items():
        if option not in known:
            raise ValueError(f"space {table.name!r} has no option {option!r}, which was given as {value!r}; leave it out")
    return given


def full_name(table: Table, changed: Table) -> str:
    """Return the space's name with the options in which `changed` differs from its own table."""
    options = []
    if changed.resolutions != table.resolutions:
        options.append("resolutions=" + "/".join(map(str, changed.resolutions)))
    for option in ("image_channels", "classes", *OWN_OPTIONS):
        if getattr(changed, option, None) != getattr(table, option, None):
            options.append(f"{option}={getattr(changed, option)}")
    return ":".join(filter(None, [table.name, ",".join(options)]))
