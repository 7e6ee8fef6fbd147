"""The Once-for-All configuration mapping, in both dialects, to and from architectures of the three OFA families.

Tutorial dialect: `{"wid": None, "ks": [20 ints], "e": [...], "d": [5 ints], "r": [224]}`; package dialect: `image_size: 224`
instead of `r`, no `wid`. Slots beyond a stage's depth are read and dropped, and written with the largest value. ProxylessNAS
has 21 blocks and six depths, the last of which is 1 whatever it says. ResNet50 has no `ks`; its `d` begins with 2 (or 0) for
a stem with (or without) its middle convolution, and goes on with blocks beyond each stage's base; `w` holds six width
indices, of the stem's inner width, its output and the stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernets.space import Architecture, ArchitectureError, SearchSpace
from supernets.spaces.ofa_resnet50 import stem_inner_widths_by_index, widths_by_index

KNOWN_KEYS = {"wid", "ks", "e", "d", "r", "image_size"}
RESNET_KEYS = {"wid", "w", "e", "d", "r", "image_size"}
MIDDLE_DEPTH = 2  # first entry of a ResNet's depths when the stem has its middle convolution


def from_ofa_config(space: SearchSpace, config: Mapping[str, Any]) -> Architecture:
    """Return the architecture a configuration describes; single values stand for every slot.

    Raises:
        ArchitectureError: an unknown key, a list of the wrong length, no resolution, or a value outside its choice.
    """
    resnet = is_resnet(space)
    unknown = sorted(set(config) - (RESNET_KEYS if resnet else KNOWN_KEYS))
    if unknown:
        expected = "w, e, d and r" if resnet else "ks, e, d and r"
        raise ArchitectureError(f"an OFA configuration has no key {unknown[0]!r}; expected {expected} (or image_size)")
    if config.get("wid") is not None:
        raise ArchitectureError(f"key 'wid' is {config['wid']!r}; space {space.name!r} has one width, expected None")
    values: dict[str, Any] = {"resolution": _resolution(config)}
    for key, kind in (("e", "expand_ratio"),) if resnet else (("ks", "kernel_size"), ("e", "expand_ratio")):
        slots = _slots(space, kind)
        values.update(zip(slots, _as_list(config, key, len(slots)), strict=True))
    return space.architecture({**values, **(_resnet_values(space, config) if resnet else _depth_values(space, config))})


def to_ofa_config(space: SearchSpace, architecture: Architecture, dialect: str = "tutorial") -> dict[str, Any]:
    """Return the architecture as a configuration in the dialect `tutorial` (`r`, `wid`) or `package` (`image_size`).

    Raises:
        ValueError: the dialect is neither.
    """
    if dialect not in ("tutorial", "package"):
        raise ValueError(f"dialect is {dialect!r}; expected 'tutorial' (ks, e, d, r, wid) or 'package' (ks, e, d, image_size)")
    largest = {choice.name: choice.values[-1] for choice in space.choices}
    shown = {name: largest[name] if value is None else value for name, value in architecture.values.items()}
    if is_resnet(space):
        lists = {
            "d": [MIDDLE_DEPTH * shown["stem.middle"], *(shown[name] for name in _slots(space, "extra_depth"))],
            "e": [shown[name] for name in _slots(space, "expand_ratio")],
            "w": [_index(widths, shown[name]) for name, widths in _width_indices(space).items()],
        }
    else:
        lists = {key: [shown[name] for name in _slots(space, kind)] for key, kind in (("ks", "kernel_size"), ("e", "expand_ratio"))}
        lists["d"] = [shown.get(f"{stage}.depth", 1) for stage in _stages(space)]
    side = architecture["resolution"]
    return {"wid": None, **lists, "r": [side]} if dialect == "tutorial" else {**lists, "image_size": side}


def is_resnet(space: SearchSpace) -> bool:
    """Return whether a space is of the ResNet50 family, whose configurations have other keys."""
    return "stem.middle" in space.position


def _slots(space: SearchSpace, kind: str) -> list[str]:
    return [choice.name for choice in space.choices if choice.kind == kind]


def _stages(space: SearchSpace) -> list[str]:
    """Return the names of the stages that have blocks to choose, in order."""
    return list(dict.fromkeys(name.partition(".")[0] for name in _slots(space, "kernel_size")))


def _depth_values(space: SearchSpace, config: Mapping[str, Any]) -> dict[str, Any]:
    stages = _stages(space)
    depths = dict(zip((f"{stage}.depth" for stage in stages), _as_list(config, "d", len(stages)), strict=True))
    return {name: depth for name, depth in depths.items() if name in space.position}


def _resnet_values(space: SearchSpace, config: Mapping[str, Any]) -> dict[str, Any]:
    extra = _slots(space, "extra_depth")
    middle, *depths = _as_list(config, "d", 1 + len(extra))
    if middle not in (0, MIDDLE_DEPTH):
        raise ArchitectureError(f"the first value of key 'd' is {middle!r}; expected 0 (no middle convolution in the stem) or {MIDDLE_DEPTH}")
    indices = _width_indices(space)
    widths = {}
    for (name, known), index in zip(indices.items(), _as_list(config, "w", len(indices)), strict=True):
        if type(index) is not int or index not in range(len(known)):
            raise ArchitectureError(f"key 'w' gives slot {name!r} the index {index!r}; expected 0 to {len(known) - 1}, of {list(known)} channels")
        widths[name] = known[index]
    return {"stem.middle": int(middle == MIDDLE_DEPTH), **dict(zip(extra, depths, strict=True)), **widths}


def _width_indices(space: SearchSpace) -> dict[str, tuple[Any, ...]]:
    """Return for each width slot the channels of each index; two indices may be one width, such as the stem's inner one."""
    largest = {choice.name: int(choice.values[-1]) for choice in space.choices if choice.kind == "width"}
    widths = {name: widths_by_index(channels) for name, channels in largest.items()}
    return {"stem.inner_width": stem_inner_widths_by_index(largest["stem.width"]), **widths}


def _index(widths: tuple[int, ...], width: Any) -> int:
    """Return the index of a width; of two that are the same the outer one, so that largest networks have the last index everywhere."""
    return len(widths) - 1 if width == widths[-1] else widths.index(width)


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
