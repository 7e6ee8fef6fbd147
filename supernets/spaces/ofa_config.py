"""The Once-for-All configuration mapping, in both dialects, to and from architectures of the MobileNetV3 family.

Tutorial dialect: `{"wid": None, "ks": [20 ints], "e": [...], "d": [5 ints], "r": [224]}`; package dialect: `image_size: 224`
instead of `r`, no `wid`. Slots beyond a stage's depth are read and dropped, and written with the largest value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernets.space import Architecture, ArchitectureError, SearchSpace

KNOWN_KEYS = {"wid", "ks", "e", "d", "r", "image_size"}


def from_ofa_config(space: SearchSpace, config: Mapping[str, Any]) -> Architecture:
    """Return the architecture a configuration describes; single values stand for every slot.

    Raises:
        ArchitectureError: an unknown key, a list of the wrong length, no resolution, or a value outside its choice.
    """
    unknown = sorted(set(config) - KNOWN_KEYS)
    if unknown:
        raise ArchitectureError(f"an OFA configuration has no key {unknown[0]!r}; expected ks, e, d and r (or image_size)")
    if config.get("wid") is not None:
        raise ArchitectureError(f"key 'wid' is {config['wid']!r}; space {space.name!r} has one width, expected None")
    values: dict[str, Any] = {"resolution": _resolution(config)}
    for key, kind in (("d", "depth"), ("ks", "kernel_size"), ("e", "expand_ratio")):
        slots = [choice.name for choice in space.choices if choice.kind == kind]
        values.update(zip(slots, _as_list(config, key, len(slots)), strict=True))
    return space.architecture(values)


def to_ofa_config(space: SearchSpace, architecture: Architecture, dialect: str = "tutorial") -> dict[str, Any]:
    """Return the architecture as a configuration in the dialect `tutorial` (`r`, `wid`) or `package` (`image_size`).

    Raises:
        ValueError: the dialect is neither.
    """
    if dialect not in ("tutorial", "package"):
        raise ValueError(f"dialect is {dialect!r}; expected 'tutorial' (ks, e, d, r, wid) or 'package' (ks, e, d, image_size)")
    largest = {choice.name: choice.values[-1] for choice in space.choices}
    shown = {name: largest[name] if value is None else value for name, value in architecture.values.items()}
    lists = {
        key: [shown[choice.name] for choice in space.choices if choice.kind == kind]
        for key, kind in (("ks", "kernel_size"), ("e", "expand_ratio"), ("d", "depth"))
    }
    side = architecture["resolution"]
    return {"wid": None, **lists, "r": [side]} if dialect == "tutorial" else {**lists, "image_size": side}


def _resolution(config: Mapping[str, Any]) -> Any:
    if ("r" in config) == ("image_size" in config):
        raise ArchitectureError("an OFA configuration gives the resolution once, as 'r': [224] or as 'image_size': 224")
    side = config["r"] if "r" in config else config["image_size"]
    if isinstance(side, list):
        if len(side) != 1:
            raise ArchitectureError(f"key 'r' is {side!r}; expected a list of one resolution, such as [224]")
        return side[0]
    return side


def _as_list(config: Mapping[str, Any], key: str, length: int) -> list[Any]:
    if key not in config:
        raise ArchitectureError(f"an OFA configuration needs the key {key!r}; expected {length} values or a single one")
    given = config[key]
    if not isinstance(given, (list, tuple)):
        return [given] * length
    if len(given) != length:
        raise ArchitectureError(f"key {key!r} has {len(given)} values; expected {length}, or a single one for all slots")
    return list(given)
