"""What the lowerings of staged spaces share: choices that a stage's depth switches, and choices of one value, which are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supernets.space import Architecture, Choice, Value


def chosen(name: str, values: Sequence[Value]) -> list[Choice]:
    """Return the choice among these values, none where there is but one."""
    return [Choice(name, tuple(values))] if len(values) > 1 else []


def switched(name: str, values: Sequence[Value], depth_name: str, depths: Sequence[int], block: int) -> list[Choice]:
    """Return the choice of a stage's block, on while the depth (in blocks, of the choice `depth_name`) reaches it."""
    if len(values) < 2:
        return []
    if block < min(depths):
        return [Choice(name, tuple(values))]
    return [Choice(name, tuple(values), depth_name, tuple(depth for depth in depths if depth > block))]


def value(architecture: Architecture, name: str, values: Sequence[Value]) -> Any:
    """Return the value chosen, or the only one."""
    return architecture[name] if len(values) > 1 else values[0]


def names(*choices: Sequence[Choice]) -> tuple[str, ...]:
    """Return the names of all choices given."""
    return tuple(choice.name for some in choices for choice in some)
