"""The inputs that models are timed on: random, the same for the same shape, never zero and never denormal.

A runtime may skip work on zeros, and processors take many times longer over denormal numbers.
"""

from __future__ import annotations

from typing import Any

SEED = 20251


def random_input(shape: list[int], dtype: str) -> Any:
    """Return an array of magnitudes from 0.1 to 1 with random signs, or of integers from 1 to 100."""
    import numpy as np

    rng = np.random.default_rng([SEED, *shape])
    if np.dtype(dtype).kind in "iu":
        return rng.integers(1, 101, size=shape).astype(dtype)
    return (rng.uniform(0.1, 1.0, size=shape) * rng.choice([-1.0, 1.0], size=shape)).astype(dtype)


def fixed_shape(name: str, shape: list[Any]) -> list[int]:
    """Return the shape of the input or output of this name.

    Raises:
        ValueError: a side is not fixed.
    """
    if not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"{name!r} of the model has the shape {shape}; expected a fixed one")
    return [int(side) for side in shape]


def quantized(values: Any, scale: float, zero_point: int) -> Any:
    """Return real numbers as int8 of this scale and zero point, the nearest there is."""
    import numpy as np

    return np.clip(np.rint(values / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)


def dequantized(values: Any, scale: float, zero_point: int) -> Any:
    """Return the float32 numbers that int8 ones of this scale and zero point stand for."""
    import numpy as np

    return (values.astype(np.float32) - zero_point) * np.float32(scale)
