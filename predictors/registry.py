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


class PlugInError(ImportError):
    """A predictor of another package cannot be imported, or is none of its family."""


def known_names(built_in: Mapping[str, str], group: str) -> list[str]:
    """Return the names of all predictors of a family, sorted."""
    return sorted({*built_in, *(point.name for point in metadata.entry_points(group=group))})


def plug_in_names(built_in: Mapping[str, str], group: str) -> list[str]:
    """Return the names of the predictors that come from entry points, sorted; none of them takes a built-in one's name."""
    return sorted({point.name for point in metadata.entry_points(group=group)} - set(built_in))


def class_of(name: str, family: str, built_in: Mapping[str, str], group: str, base: type = object) -> Any:
    """Return the class of this name, a subclass of `base`.

    Raises:
        UnknownPredictorError: the family has no predictor of that name.
        PlugInError: it is one of another package, and cannot be imported, or is no such class of this name.
    """
    if name in built_in:
        module, _, class_name = built_in[name].partition(":")
        return getattr(importlib.import_module(module), class_name)
    for point in metadata.entry_points(group=group, name=name):
        return _loaded(point, family, base)
    raise UnknownPredictorError(f"unknown {family} predictor {name!r}; known: {', '.join(known_names(built_in, group))}")


def _loaded(point: metadata.EntryPoint, family: str, base: type) -> Any:
    what = f"{family} predictor {point.name!r} is a plug-in ({point.value}{'' if point.dist is None else f' of package {point.dist.name}'})"
    try:
        found = point.load()
    except Exception as error:
        raise PlugInError(f"{what} that cannot be imported: {type(error).__name__}: {error}; mend it, or uninstall the package") from error
    if not (isinstance(found, type) and issubclass(found, base)) or getattr(found, "name", point.name) != point.name:
        raise PlugInError(f"{what}, and not a subclass of {base.__name__} whose name is {point.name!r}; mend it, or uninstall the package")
    return found
