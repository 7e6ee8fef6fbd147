"""Once-for-All's own feature vectors of architectures, which its published accuracy predictors read.

Each returns float32 of shape (n_architectures, n_features), of zeros and ones; slots beyond a stage's depth are all zero.
Three layouts that are not interchangeable: the tutorial's (128 columns), the library's for mobile networks (resolution
first), and the library's for ResNet50 (82 columns with its eight resolutions).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from supernets.space import Architecture, SearchSpace, Value
from supernets.spaces.ofa_config import is_resnet, to_ofa_config

TUTORIAL_RESOLUTIONS = tuple(range(112, 225, 16))
RESNET_RESOLUTIONS = (128, 144, 160, 176, 192, 224, 240, 256)
Features = np.ndarray[Any, np.dtype[np.float32]]


def tutorial_encoding(space: SearchSpace, architectures: Iterable[Architecture]) -> Features:
    """Return kernels of all blocks, then expansions of all blocks, then the resolution (112 to 224 in steps of 16).

    Raises:
        ValueError: the space is no mobile OFA space, or a resolution is none of the eight.
    """
    return _mobile(space, architectures, TUTORIAL_RESOLUTIONS, resolution_first=False)


def library_encoding(space: SearchSpace, architectures: Iterable[Architecture], resolutions: Sequence[int] = (224,)) -> Features:
    """Return the resolution (one of those given), then kernels of all blocks, then expansions of all blocks.

    Raises:
        ValueError: the space is no mobile OFA space, or a resolution is not among those given.
    """
    return _mobile(space, architectures, resolutions, resolution_first=True)


def resnet_encoding(space: SearchSpace, architectures: Iterable[Architecture], resolutions: Sequence[int] = RESNET_RESOLUTIONS) -> Features:
    """Return resolution, stem without and with its middle convolution, six widths by index, expansions of all blocks.

    Raises:
        ValueError: the space is no ResNet OFA space, or a resolution is not among those given.
    """
    if not is_resnet(space):
        raise ValueError(f"space {space.name!r} has no ResNet encoding; expected ofa-resnet50 or one like it")
    rows = []
    for architecture in architectures:
        config = to_ofa_config(space, architecture)
        rows.append([
            *_one_hot(_side(architecture, resolutions), resolutions), *_one_hot(int(config["d"][0] > 0), (0, 1)),
            *(flag for index in config["w"] for flag in _one_hot(index, (0, 1, 2))), *_by_choice(space, architecture, "expand_ratio"),
        ])  # fmt: skip
    return _table(rows)


def _mobile(space: SearchSpace, architectures: Iterable[Architecture], resolutions: Sequence[int], *, resolution_first: bool) -> Features:
    kinds = {choice.kind for choice in space.choices}
    if kinds != {"resolution", "depth", "kernel_size", "expand_ratio"}:
        raise ValueError(f"space {space.name!r} has choices of {', '.join(sorted(kinds))}; OFA's mobile encodings know resolution, depth,"
                         " kernel_size and expand_ratio only")  # fmt: skip
    rows = []
    for architecture in architectures:
        side = _one_hot(_side(architecture, resolutions), resolutions)
        blocks = [*_by_choice(space, architecture, "kernel_size"), *_by_choice(space, architecture, "expand_ratio")]
        rows.append([*side, *blocks] if resolution_first else [*blocks, *side])
    return _table(rows)


def _side(architecture: Architecture, resolutions: Sequence[int]) -> int:
    side = int(architecture["resolution"])
    if side not in resolutions:
        raise ValueError(f"resolution {side} has no column in this encoding; expected one of {', '.join(map(str, resolutions))}")
    return side


def _by_choice(space: SearchSpace, architecture: Architecture, kind: str) -> list[bool]:
    return [flag for choice in space.choices if choice.kind == kind for flag in _one_hot(architecture[choice.name], choice.values)]


def _one_hot(value: Value | None, values: Sequence[Value]) -> list[bool]:
    return [value == each for each in values]


def _table(rows: list[list[bool]]) -> Features:
    return np.array(rows, dtype=np.float32).reshape(len(rows), -1 if rows else 0)
