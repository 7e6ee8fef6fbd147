"""Published networks by name, each an architecture of one of the spaces: yardsticks for counters, tables and searches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from supernets import spaces
from supernets.space import Architecture, SearchSpace
from supernets.spaces.repvgg import BY_COST

Values: TypeAlias = dict[str, Any]

# MnasNet, a stage a row: convolution, kernel, squeeze-and-excitation, width, depth; the first layer of the first stage never skips.
_MNASNET: dict[str, tuple[str, tuple[tuple[str, int, bool, int, int], ...]]] = {
    "mnasnet-a1": ("mnasnet", (
        ("sepconv", 3, False, 16, 1), ("mbconv6", 3, False, 24, 2), ("mbconv3", 5, True, 40, 3), ("mbconv6", 3, False, 80, 4),
        ("mbconv6", 3, True, 112, 2), ("mbconv6", 5, True, 160, 3), ("mbconv6", 3, False, 320, 1),
    )),
    "mnasnet-b1": ("mnasnet", (
        ("sepconv", 3, False, 16, 1), ("mbconv3", 3, False, 24, 3), ("mbconv3", 5, False, 40, 3), ("mbconv6", 5, False, 80, 3),
        ("mbconv6", 3, False, 96, 2), ("mbconv6", 5, False, 192, 4), ("mbconv6", 3, False, 320, 1),
    )),
    "mnasnet-small": ("mnasnet-small", (
        ("sepconv", 3, False, 8, 1), ("mbconv3", 3, False, 16, 1), ("mbconv6", 3, False, 16, 2), ("mbconv6", 5, True, 32, 4),
        ("mbconv6", 3, True, 32, 3), ("mbconv6", 5, True, 88, 3), ("mbconv6", 3, False, 144, 1),
    )),
}  # fmt: skip

# AttentiveNAS: resolution, widths from stem to head, and of each stage kernel, expansion, depth.
_ATTENTIVENAS = {
    "attentivenas-a0": (192, (16, 16, 24, 32, 64, 112, 192, 216, 1792), "3333333", "1444466", "1333331"),
    "attentivenas-a1": (224, (16, 16, 24, 32, 64, 112, 192, 216, 1984), "3335353", "1444466", "1333331"),
    "attentivenas-a2": (224, (16, 16, 24, 32, 64, 112, 200, 224, 1984), "3333353", "1454466", "1333341"),
    "attentivenas-a3": (224, (16, 16, 24, 32, 64, 112, 208, 224, 1984), "3335333", "1444466", "2334351"),
    "attentivenas-a4": (256, (16, 16, 24, 32, 64, 112, 192, 216, 1984), "3335353", "1445466", "1334351"),
    "attentivenas-a5": (256, (16, 16, 24, 32, 72, 112, 192, 216, 1792), "3335333", "1454466", "1333461"),
    "attentivenas-a6": (288, (16, 16, 24, 32, 64, 112, 216, 224, 1984), "3333353", "1465466", "1334461"),
}
_EFFICIENTNET_B0 = (224, (32, 16, 24, 40, 80, 112, 192, 320, 1280), "3353553", "1666666", "1223341")  # in the same words


def _mnasnet(name: str, space: SearchSpace) -> Values:
    values: Values = {"resolution": 224}
    for s, (convolution, kernel_size, gated, width, depth) in enumerate(_MNASNET[name][1], start=1):
        wanted = {"convolution": convolution, "kernel_size": kernel_size, "se_ratio": 0.25 if gated else 0, "width": width, "depth": depth,
                  "skip": "identity", "lone_skip": "none"}  # fmt: skip
        values.update({f"stage{s}.{kind}": value for kind, value in wanted.items() if f"stage{s}.{kind}" in space.position})
    return values


def _bignas(row: tuple[int, tuple[int, ...], str, str, str], space: SearchSpace) -> Values:
    resolution, widths, kernels, expansions, depths = row
    values: Values = {"resolution": resolution, "stem.width": widths[0], "head.width": widths[-1]}
    for s in range(1, 8):
        kinds = {"width": widths[s], "kernel_size": int(kernels[s - 1]), "expand_ratio": int(expansions[s - 1]), "depth": int(depths[s - 1])}
        values.update({f"stage{s}.{kind}": value for kind, value in kinds.items() if f"stage{s}.{kind}" in space.position})
    return values


def _repvgg(skeleton: str, space: SearchSpace) -> Values:
    return {"resolution": 224, "skeleton": skeleton}


def _resnet50d(space: SearchSpace) -> Values:
    extra_depths = {"stage1": 1, "stage2": 2, "stage3": 2, "stage4": 1}
    values: Values = {choice.name: choice.values[-1] for choice in space.choices}
    values.update({choice.name: 0.25 for choice in space.choices if choice.kind == "expand_ratio"})
    values.update({f"{stage}.extra_depth": extra for stage, extra in extra_depths.items()})
    return values


# name → its space and the values of its architecture there
NAMED: dict[str, tuple[str, Callable[[SearchSpace], Values]]] = {
    **{name: (space, partial(_mnasnet, name)) for name, (space, _) in _MNASNET.items()},
    **{name: ("attentivenas", partial(_bignas, row)) for name, row in _ATTENTIVENAS.items()},
    **{f"repvgg-{skeleton}": ("repvgg", partial(_repvgg, skeleton)) for skeleton in BY_COST},
    "bignas-smallest": ("bignas", lambda space: dict(space.smallest().values)),
    "bignas-biggest": ("bignas", lambda space: dict(space.largest().values)),
    "efficientnet-b0": ("bignas:shortcuts=identity", partial(_bignas, _EFFICIENTNET_B0)),
    "resnet50d": ("ofa-resnet50", _resnet50d),
}  # fmt: skip


def named_architecture(name: str) -> Architecture:
    """Return the published network of this name; `supernets.spaces.space(architecture.space)` is its space.

    Raises:
        KeyError: no network has that name; the text lists those that are known.
    """
    if name not in NAMED:
        raise KeyError(f"unknown network {name!r}; known networks: {', '.join(sorted(NAMED))}")
    space_name, values = NAMED[name]
    space = spaces.space(space_name)
    return space.architecture(values(space))
