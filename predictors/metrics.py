"""Figures that say how good predictions are: errors in per cent or points, rank correlations, reliability of labels.

Rank correlations are NaN where they are undefined (fewer than two different values on either side). Kendall's is tau-b;
its counting of inversions is the one pass over the ranks' bits that builds a wavelet tree, O(n log n).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from predictors.population import Numbers

Indices = np.ndarray[Any, np.dtype[np.int64]]
Bits = np.ndarray[Any, np.dtype[np.bool_]]

SPLITS = 50  # random halves averaged for a split-half reliability; its own spread is then far below the halves'


def relative_errors_percent(predicted: Numbers, measured: Numbers) -> Numbers:
    """Return (predicted - measured) / measured in per cent, one for each."""
    return 100.0 * (predicted - measured) / measured


def mape_percent(predicted: Numbers, measured: Numbers) -> float:
    """Return the mean absolute relative error."""
    return float(np.abs(relative_errors_percent(predicted, measured)).mean())


def bias_percent(predicted: Numbers, measured: Numbers) -> float:
    """Return the mean relative error: above zero where predictions are too high."""
    return float(relative_errors_percent(predicted, measured).mean())


def within_share(predicted: Numbers, measured: Numbers, percent: float) -> float:
    """Return the share (0 to 1) of predictions at most `percent` away."""
    return float((np.abs(relative_errors_percent(predicted, measured)) <= percent).mean())


def worst_percent(predicted: Numbers, measured: Numbers) -> float:
    """Return the relative error that is farthest from zero, with its sign."""
    errors = relative_errors_percent(predicted, measured)
    return float(errors[np.abs(errors).argmax()])


def rmse(predicted: Numbers, measured: Numbers) -> float:
    """Return the root of the mean squared error, in the unit of the figures."""
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))


def pearson(x: Numbers, y: Numbers) -> float:
    """Return the linear correlation."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")


def spearman(x: Numbers, y: Numbers) -> float:
    """Return the rank correlation of Spearman, ties at their mean rank."""
    return pearson(_mean_ranks(x), _mean_ranks(y))


def kendall(x: Numbers, y: Numbers) -> float:
    """Return the rank correlation tau-b of Kendall."""
    order = np.lexsort((y, x))
    x_ranks, y_ranks = _dense_ranks(x)[order], _dense_ranks(y)[order]
    pairs = len(order) * (len(order) - 1) // 2
    x_ties, y_ties = _tied_pairs(x_ranks), _tied_pairs(y_ranks)
    both_ties = _tied_pairs(x_ranks * (len(order) + 1) + y_ranks)
    discordant = _inversions(y_ranks)
    concordant = pairs - x_ties - y_ties + both_ties - discordant
    scale = float(pairs - x_ties) * float(pairs - y_ties)
    return (concordant - discordant) / scale**0.5 if scale > 0 else float("nan")


def _dense_ranks(x: Numbers) -> Indices:
    return np.unique(x, return_inverse=True)[1].astype(np.int64).ravel()


def _mean_ranks(x: Numbers) -> Numbers:
    ranks = _dense_ranks(x)
    counts = np.bincount(ranks)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[ranks])


def _tied_pairs(ranks: Indices) -> int:
    counts = np.unique(ranks, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: Indices) -> int:
    """Return how many pairs stand in falling order.

    Two ranks differ first in one bit, counted from the highest; there the falling pairs of equal prefix are a one before a zero.
    """
    total = 0
    for bit in reversed(range(int(ranks.max(initial=0)).bit_length())):
        ranks = ranks[np.argsort(ranks >> (bit + 1), kind="stable")]
        prefixes, ones = ranks >> (bit + 1), (ranks >> bit) & 1
        ones_before = np.cumsum(ones) - ones
        starts = np.concatenate([[0], np.flatnonzero(np.diff(prefixes)) + 1])
        lengths = np.diff(np.append(starts, len(ranks)))
        total += int(((ones_before - np.repeat(ones_before[starts], lengths)) * (1 - ones)).sum())
    return total


def kendall_within(x: Numbers, y: Numbers, groups: np.ndarray[Any, Any]) -> dict[Any, float]:
    """Return group → tau-b among its members alone, groups in ascending order."""
    return {group.item(): kendall(x[groups == group], y[groups == group]) for group in np.unique(groups)}


def spearman_brown(half_correlation: float) -> float:
    """Return the reliability of a whole from the correlation of its two halves."""
    return 2 * half_correlation / (1 + half_correlation) if half_correlation > -1 else float("nan")


def hit_bits(hits: list[bytes], images: int) -> Bits:
    """Return packed bits as an array (n_architectures, images).

    Raises:
        ValueError: a row has another number of bytes.
    """
    for row, packed in enumerate(hits):
        if len(packed) != (images + 7) // 8:
            raise ValueError(f"hits of architecture {row} are {len(packed)} bytes; expected {(images + 7) // 8} for {images} images")
    packed_rows = np.frombuffer(b"".join(hits), dtype=np.uint8).reshape(len(hits), (images + 7) // 8)
    return np.unpackbits(packed_rows, axis=1, count=images).astype(bool)


def split_half_reliability(hits: Bits, groups: np.ndarray[Any, Any] | None = None, splits: int = SPLITS, seed: int = 0) -> float:
    """Return how well accuracies on these images repeat: 1 = no noise, 0 = nothing but noise.

    `hits` is (n_architectures, images). The images fall into two random halves; the correlation of the two accuracies over
    the architectures, stepped up to the full number of images by Spearman and Brown, is averaged over `splits` such halves.
    With `groups`, each accuracy is taken against its group's mean: the reliability of differences inside a group.

    Raises:
        ValueError: fewer than two images or architectures.
    """
    count, images = hits.shape
    if count < 2 or images < 2:
        raise ValueError(f"hits have the shape {hits.shape}; a reliability needs at least two architectures and two images")
    rng = np.random.default_rng(seed)
    half = np.zeros((images, splits), dtype=np.float32)
    for split in range(splits):
        half[rng.permutation(images)[: images // 2], split] = 1
    first = _halves(hits, half) / (images // 2)
    second = _halves(hits, 1 - half) / (images - images // 2)
    if groups is not None:
        first, second = _centred(first, groups), _centred(second, groups)
    return float(np.mean([spearman_brown(pearson(a, b)) for a, b in zip(first.T, second.T, strict=True)]))


def _halves(hits: Bits, weights: np.ndarray[Any, np.dtype[np.float32]]) -> Numbers:
    """Return the hits in each half, (n_architectures, splits); float32 counts whole numbers exactly up to 2^24."""
    rows = 1024
    parts = [hits[start : start + rows].astype(np.float32) @ weights for start in range(0, len(hits), rows)]
    return np.concatenate(parts).astype(np.float64)


def _centred(figures: Numbers, groups: np.ndarray[Any, Any]) -> Numbers:
    centred = figures.copy()
    for group in np.unique(groups):
        centred[groups == group] -= figures[groups == group].mean(axis=0)
    return centred
