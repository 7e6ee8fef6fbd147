"""Finding a predictor's class by name: built in (name → "module:Class") or from an entry-point group, imported on demand."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any


class UnknownPredictorError(KeyError):
    """No predictor of the family has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def known_names(built_in: Mapping[str, str], group: str) -> list[str]:
    """Return the names of all predictors of a family, sorted."""
    return sorted({*built_in, *(point.name for point in metadata.entry_points(group=group))})


def class_of(name: str, family: str, built_in: Mapping[str, str], group: str) -> Any:
    """Return the class of this name.

    Raises:
        UnknownPredictorError: the family has no predictor of that name.
    """
    if name in built_in:
        module, _, class_name = built_in[name].partition(":")
        return getattr(importlib.import_module(module), class_name)
    for point in metadata.entry_points(group=group, name=name):
        return point.load()
    raise UnknownPredictorError(f"unknown {family} predictor {name!r}; known: {', '.join(known_names(built_in, group))}")
