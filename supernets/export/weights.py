"""Weights that graphs are written from: norms folded, or random ones for timing, and the checks every writer makes first.

Folded tensors are float32: `<convolution>.weight` (out, in / groups, k, k), and `<convolution>.bias` (out,) where the
convolution has a norm or a bias (operator `conv` has neither, and gets none).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from supernets.blocks import BlockSpec, Convolution

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Exact: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

NEVER_NEGATIVE = ("relu", "relu6", "h_sigmoid", "sigmoid")
BIAS_SPREAD = 0.1  # of random biases: none is zero, none decides what the map looks like


def folded_shapes(blocks: Iterable[BlockSpec]) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every folded tensor of these blocks, in order of execution.

    Raises:
        ValueError: blocks of one name need tensors of different shapes.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for block in blocks:
        for convolution in block.convolutions():
            for name, shape in _convolution_shapes(convolution).items():
                if shapes.setdefault(name, shape) != shape:
                    raise ValueError(f"tensor {name!r} is needed with shapes {shapes[name]} and {shape}; give blocks that differ different names")
    return shapes


def _convolution_shapes(convolution: Convolution) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{convolution.name}.weight": convolution.weight_shape}
    if convolution.norm or convolution.bias:
        shapes[f"{convolution.name}.bias"] = (convolution.out_channels,)
    return shapes


def random_folded_weights(blocks: Sequence[BlockSpec], seed: int = 0) -> dict[str, Array]:
    """Return random folded tensors for timing: the same for the same seed.

    They are scaled by fan-in, so that maps neither overflow nor fade into denormal numbers, which many processors
    multiply slowly.

    Raises:
        ValueError: blocks of one name need tensors of different shapes.
    """
    rng = np.random.default_rng(seed)
    shapes = folded_shapes(blocks)
    gains = {convolution.name: 1.0 if convolution.activation == "none" else 2.0 for block in blocks for convolution in block.convolutions()}
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        convolution, _, part = name.rpartition(".")
        spread = BIAS_SPREAD if part == "bias" else math.sqrt(gains[convolution] / math.prod(shape[1:]))
        weights[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)
    return weights


def fold(tensors: Mapping[str, np.ndarray[Any, Any]], blocks: Iterable[BlockSpec], eps: float = 1e-5) -> dict[str, Array]:
    """Return the tensors with every norm merged into its convolution's weight and bias.

    With scale = gamma / sqrt(running_var + eps): weight * scale, and beta + (bias - running_mean) * scale; in float64,
    rounded once. Tensors that the blocks do not name are left out.

    Raises:
        ValueError: a tensor is missing, has another shape, is not finite, or is a variance that `eps` does not lift above zero.
    """
    folded: dict[str, Array] = {}
    for block in blocks:
        for convolution in block.convolutions():
            weight, bias = _folded(tensors, convolution, eps)
            folded[f"{convolution.name}.weight"] = _rounded(f"{convolution.name}.weight", weight)
            if bias is not None:
                folded[f"{convolution.name}.bias"] = _rounded(f"{convolution.name}.bias", bias)
    return folded


def _folded(tensors: Mapping[str, np.ndarray[Any, Any]], convolution: Convolution, eps: float) -> tuple[Exact, Exact | None]:
    """Return the weight and the bias (None where there is none) of one convolution after its norm."""
    name, channels = convolution.name, (convolution.out_channels,)
    weight = _tensor(tensors, f"{name}.weight", convolution.weight_shape).astype(np.float64)
    bias = _tensor(tensors, f"{name}.bias", channels).astype(np.float64) if convolution.bias else None
    if not convolution.norm:
        return weight, bias
    gamma, beta, mean, var = (
        _tensor(tensors, f"{name}.bn.{part}", channels).astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    if var.min() + eps <= 0:
        raise ValueError(f"tensor '{name}.bn.running_var' holds {var.min():g}; a variance plus eps {eps:g} must be above zero")
    scale = gamma / np.sqrt(var + eps)
    return weight * scale[:, None, None, None], beta + ((0 if bias is None else bias) - mean) * scale


def _rounded(name: str, value: Exact) -> Array:
    with np.errstate(over="ignore"):
        rounded = value.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError(f"tensor {name!r} leaves the range of float32 when its norm is folded in; check its bn.weight and bn.running_var")
    return rounded


def _tensor(tensors: Mapping[str, np.ndarray[Any, Any]], name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if name not in tensors:
        raise ValueError(f"tensor {name!r} is missing; the blocks need it with shape {shape}")
    value = np.asarray(tensors[name])
    if value.shape != shape:
        raise ValueError(f"tensor {name!r} has shape {value.shape}; the blocks need {shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"tensor {name!r} holds values that are not finite; expected numbers only")
    return value


def checked(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], batch: int) -> dict[str, Array]:
    """Return the folded tensors of blocks that make one graph, each float32 and contiguous.

    Raises:
        ValueError: no blocks, a batch under 1, blocks that do not follow one another, a linear block that is more than a
            matrix product, or a tensor that is missing, misshapen, not finite, or a bias where none belongs.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    if not blocks:
        raise ValueError("a graph needs at least one block; none was given")
    _check_chain(blocks)
    shapes = folded_shapes(blocks)
    for name in shapes:
        convolution, _, part = name.rpartition(".")
        if part == "weight" and f"{convolution}.bias" in weights and f"{convolution}.bias" not in shapes:
            raise ValueError(f"tensor '{convolution}.bias' belongs to a convolution without bias; leave it out")
    return {name: np.ascontiguousarray(_tensor(weights, name, shape), dtype=np.float32) for name, shape in shapes.items()}


def _check_chain(blocks: Sequence[BlockSpec]) -> None:
    for block in blocks:
        # The walk's `linear` is the matrix product alone: what it would leave out is refused, not dropped.
        plain = (block.input_side, block.kernel_size, block.groups, block.activation, block.residual) == (1, 1, 1, "none", False)
        if block.operator == "linear" and not plain:
            raise ValueError(f"linear block {block.name!r} is {block.key}; expected side 1, kernel 1, groups 1, no activation, no residual")
    for before, block in pairwise(blocks):
        given, taken = (before.out_channels, before.output_side), (block.in_channels, block.input_side)
        if given != taken or (before.operator == "linear" and block.operator != "linear"):
            raise ValueError(
                f"block {block.name!r} ({block.operator}) cannot follow {before.name!r} ({before.operator}): that gives {given[0]} channels"
                f" of side {given[1]}, this takes {taken[0]} of side {taken[1]}; give blocks in order of execution"
            )
        if block.operator == "max_pool" and before.activation not in NEVER_NEGATIVE:
            raise ValueError(
                f"max_pool block {block.name!r} follows {before.name!r}, whose activation is {before.activation!r}; expected one of"
                f" {', '.join(NEVER_NEGATIVE)}, since the zeros that it pads with must not be larger than the map"
            )
