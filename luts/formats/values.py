"""Values of files, checked: text (of CSV), numbers and truths (of JSON and Parquet) become the fields of our data classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from luts.condition import Condition
from luts.formats.base import TableFileError
from luts.table import Entry
from supernets.blocks import BlockSpec

LARGEST = 2**31 - 1  # of a side, a number of channels or a count
SHOWN = 40  # characters of a wrong value in the text of an error

Made = TypeVar("Made")


def whole(value: Any, name: str) -> int:
    """Return a whole number from 0 on."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(LARGEST)) + 1:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return value
    raise _wrong(value, name, f"a whole number from 0 to {LARGEST}")


def number(value: Any, name: str) -> float:
    """Return a finite number from 0 on."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if math.isfinite(found) and found >= 0:
        return found
    raise _wrong(value, name, "a number from 0 on")


def optional_number(value: Any, name: str) -> float | None:
    """Return a finite number from 0 on; None for None and for empty text."""
    return None if value is None or value == "" else number(value, name)


def text(value: Any, name: str) -> str:
    """Return text as it is."""
    if isinstance(value, str) and value.encode(errors="replace").decode() == value:  # JSON can spell half a character
        return value
    raise _wrong(value, name, "text")


def truth(value: Any, name: str) -> bool:
    """Return a truth, in any spelling of true and false."""
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise _wrong(value, name, "true or false")
    return found


def cores(value: Any, name: str) -> tuple[int, ...]:
    """Return processor cores: a list of numbers, or text such as `0,1`; none is empty."""
    parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise _wrong(value, name, "core numbers")
    return tuple(whole(part, name) for part in parts)


_CONVERTERS: dict[str, Callable[[Any, str], Any]] = {
    "int": whole, "float": number, "float | None": optional_number, "str": text, "bool": truth, "tuple[int, ...]": cores,
}  # fmt: skip


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a mapping as it is."""
    if isinstance(value, dict):
        return value
    raise _wrong(value, name, "named values")


def sequence(value: Any, name: str) -> list[Any]:
    """Return a list as it is."""
    if isinstance(value, list):
        return value
    raise _wrong(value, name, "a list")


def field_names(kind: Any, without: tuple[str, ...] = ()) -> list[str]:
    """Return the names of a data class's fields."""
    return [field.name for field in fields(kind) if field.name not in without]


def made(kind: Callable[..., Made], values: Mapping[str, Any], **given: Any) -> Made:
    """Return an object of a data class from the values of its fields, those `given` left out.

    Raises:
        TableFileError: a value is missing, of the wrong kind, or refused by the class.
    """
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in given:
            continue
        if field.name in values:
            found[field.name] = _CONVERTERS[str(field.type)](values[field.name], field.name)
        elif not field.metadata.get("may_be_missing"):  # files of older versions do not have it
            raise TableFileError(f"{field.name} is missing; expected {', '.join(field_names(kind, tuple(given)))}")
    try:
        return kind(**found, **given)
    except ValueError as error:
        raise TableFileError(str(error)) from None


def no_others(values: Mapping[str, Any], known: list[str]) -> None:
    """Do nothing where all names are known.

    Raises:
        TableFileError: one is not.
    """
    for name in values:
        if name not in known:
            raise TableFileError(f"{str(name)[:SHOWN]!r} is unknown; expected {', '.join(known)}")


# --- entries --------------------------------------------------------------------------------------------------------------

_BLOCK = field_names(BlockSpec, ("name",))
_FIGURES = field_names(Entry, ("block",))
ENTRY_FIELDS = ["key", *_BLOCK, *_FIGURES]


def entry_values(entry: Entry) -> dict[str, Any]:
    """Return an entry under ENTRY_FIELDS."""
    return {name: getattr(entry.block if name == "key" or name in _BLOCK else entry, name) for name in ENTRY_FIELDS}


def entry_of(values: Mapping[str, Any]) -> Entry:
    """Return the entry that `entry_values` described.

    Raises:
        TableFileError: a value is missing or wrong, or the key is another block's.
    """
    block = made(BlockSpec, values, name="block")
    if values.get("key") != block.key:
        raise _wrong(values.get("key"), "key", f"{block.key}, which its other values say")
    return made(Entry, values, block=block)


def condition_of(values: Mapping[str, Any]) -> Condition:
    """Return the condition in these values.

    Raises:
        TableFileError: a value is missing or wrong.
    """
    return made(Condition, values)


def _wrong(value: Any, name: str, expected: str) -> TableFileError:
    shown = repr(value) if isinstance(value, (str, int, float, type(None))) and len(str(value)) <= SHOWN else f"{str(value)[:SHOWN]} ..."
    return TableFileError(f"{name} is {shown}; expected {expected}")
