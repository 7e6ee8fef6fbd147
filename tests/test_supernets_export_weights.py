"""Weights before they become a graph: folding, random ones, and what is refused. Needs numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supernets.blocks import BlockSpec
from supernets.export.weights import checked, fold, folded_shapes, random_folded_weights
from supernets.spaces import space

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
STEM = BlockSpec("conv_bn", 8, 3, 4, kernel_size=3, stride=2, activation="relu", name="stem")
NEXT = BlockSpec("conv", 4, 4, 6, name="next")
HEAD = BlockSpec("linear", 1, 6, 5, name="head")


def unfolded() -> dict[str, np.ndarray]:
    """Return random unfolded tensors of the three blocks, and one that none of them names."""
    rng = np.random.default_rng(0)
    state = {"unused": np.zeros(3), **random_folded_weights([NEXT, HEAD]), "stem.conv.weight": rng.normal(size=(4, 3, 3, 3))}
    state |= {f"stem.conv.bn.{part}": rng.uniform(0.5, 2, 4) for part in NORM_PARTS}
    return {name: value.astype(np.float32) for name, value in state.items()}


def test_folding_is_exact_but_for_one_rounding() -> None:
    state = unfolded()
    weight, (gamma, beta, mean, var) = state["stem.conv.weight"], (state[f"stem.conv.bn.{part}"].astype(np.float64) for part in NORM_PARTS)
    scale = gamma / np.sqrt(var + 1e-3)
    folded = fold(state, [STEM], eps=1e-3)
    assert list(folded) == ["stem.conv.weight", "stem.conv.bias"]
    np.testing.assert_array_equal(folded["stem.conv.weight"], (weight * scale.reshape(-1, 1, 1, 1)).astype(np.float32))
    np.testing.assert_array_equal(folded["stem.conv.bias"], (beta - mean * scale).astype(np.float32))


def test_folding_leaves_convolutions_without_norm_as_they_are() -> None:
    state = unfolded()
    folded = fold(state, [NEXT, HEAD])
    assert sorted(folded) == ["head.conv.bias", "head.conv.weight", "next.conv.weight"]
    for name, value in folded.items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.conv.bn.running_var": None}, r"'stem.conv.bn.running_var' is missing; .*\(4,\)"),
        ({"stem.conv.weight": np.ones((4, 3, 5, 5))}, r"'stem.conv.weight' has shape \(4, 3, 5, 5\); the blocks need \(4, 3, 3, 3\)"),
        ({"stem.conv.bn.bias": np.array([0, 1, np.nan, 0])}, "'stem.conv.bn.bias' holds values that are not finite"),
        ({"stem.conv.bn.running_var": np.array([1, 1, -0.5, 1])}, "'stem.conv.bn.running_var' holds -0.5"),
        ({"stem.conv.bn.weight": np.full(4, 1e39)}, "'stem.conv.weight' leaves the range of float32"),
    ],
)
def test_folding_names_the_tensor_it_cannot_use(change: dict[str, Any], message: str) -> None:
    state = {name: value for name, value in (unfolded() | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        fold(state, [STEM])


def test_blocks_that_differ_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match=r"'block.conv.weight' is needed with shapes \(4, 4, 1, 1\) and \(8, 4, 1, 1\)"):
        random_folded_weights([BlockSpec("conv", 4, 4, 4), BlockSpec("conv", 4, 4, 8)])


def test_random_weights_have_the_folded_shapes_and_follow_the_seed() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    blocks = tiny.blocks(tiny.largest())
    weights, again, other = (random_folded_weights(blocks, seed) for seed in (1, 1, 2))
    assert {name: weight.shape for name, weight in weights.items()} == folded_shapes(blocks)
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(weights[name], again[name]) and not np.array_equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize(
    ("blocks", "change", "batch", "message"),
    [
        ([], {}, 1, "at least one block"),
        ([STEM], {}, 0, "batch is 0; expected at least 1"),
        ([STEM], {"stem.conv.bias": None}, 1, r"'stem.conv.bias' is missing; .*\(4,\)"),
        ([STEM], {"stem.conv.bias": np.zeros(3, np.float32)}, 1, r"'stem.conv.bias' has shape \(3,\); the blocks need \(4,\)"),
        ([STEM, NEXT], {"next.conv.bias": np.zeros(6, np.float32)}, 1, "'next.conv.bias' belongs to a convolution without bias"),
        ([NEXT, STEM], {}, 1, r"'stem' \(conv_bn\) cannot follow 'next' \(conv\): that gives 6 channels of side 4, this takes 3 of side 8"),
        ([HEAD, BlockSpec("conv", 1, 5, 5, name="late")], {}, 1, r"'late' \(conv\) cannot follow 'head' \(linear\)"),
        ([BlockSpec("linear", 1, 6, 5, activation="relu", name="head")], {}, 1, "linear block 'head' .* no activation"),
    ],
)
def test_what_makes_no_graph_is_refused(blocks: list[BlockSpec], change: dict[str, Any], batch: int, message: str) -> None:
    weights = {name: value for name, value in (random_folded_weights([STEM, NEXT, HEAD]) | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        checked(blocks, weights, batch)


def test_checked_weights_are_float32_and_contiguous_and_no_more_than_the_blocks_need() -> None:
    weights = {name: np.asfortranarray(weight, np.float64) for name, weight in random_folded_weights([STEM, NEXT]).items()}
    ready = checked([STEM], weights, batch=1)
    assert list(ready) == ["stem.conv.weight", "stem.conv.bias"]
    assert all(weight.dtype == np.float32 and weight.flags.c_contiguous for weight in ready.values())
    np.testing.assert_array_equal(ready["stem.conv.weight"], weights["stem.conv.weight"])
