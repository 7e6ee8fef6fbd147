"""The inputs that activation ranges are found on: real ones of an exported network, or random ones where only the time counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from supernets.blocks import BlockSpec

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

SEED = 20261
RANDOM_BATCHES = 4  # enough for ranges that hold most of what random weights give


def random_inputs(blocks: Sequence[BlockSpec], batch: int = 1) -> Array:
    """Return normally distributed inputs (n, C, side, side) for timing: how long integers take does not depend on their values."""
    first = blocks[0]
    shape = (RANDOM_BATCHES * batch, first.in_channels, first.input_side, first.input_side)
    return np.random.default_rng([SEED, *shape]).standard_normal(shape, dtype=np.float32)


def batches_of(blocks: Sequence[BlockSpec], inputs_NCHW: np.ndarray[Any, Any], batch: int) -> Iterator[Array]:
    """Yield the inputs in whole batches; what does not fill the last one is left out.

    Raises:
        ValueError: their shape is not the network's, or they do not fill one batch.
    """
    first = blocks[0]
    wanted = (first.in_channels, first.input_side, first.input_side)
    if inputs_NCHW.shape[1:] != wanted or len(inputs_NCHW) < batch:
        raise ValueError(f"inputs for activation ranges have the shape {inputs_NCHW.shape}; expected at least {batch} of {wanted}")
    for start in range(0, len(inputs_NCHW) - batch + 1, batch):
        yield np.ascontiguousarray(inputs_NCHW[start : start + batch], dtype=np.float32)
