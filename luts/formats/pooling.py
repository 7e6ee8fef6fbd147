"""One figure from several of the same block: the mean and spread of all their samples together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from luts.table import Entry


def pooled(entries: Iterable[Entry]) -> list[Entry]:
    """Return each block's entry once, those of one block made into one weighted by their samples; where none has any, the first."""
    by_key: dict[str, list[Entry]] = {}
    for entry in entries:
        by_key.setdefault(entry.block.key, []).append(entry)
    return [_pooled(same) for same in by_key.values()]


def _pooled(same: Sequence[Entry]) -> Entry:
    samples = sum(entry.samples for entry in same)
    if len(same) == 1 or samples == 0:
        return same[0]
    mean_ms = sum(entry.samples * entry.latency_ms for entry in same) / samples
    squares = sum(entry.samples * (_variance(entry) + (entry.latency_ms - mean_ms) ** 2) for entry in same)
    return Entry(same[0].block, mean_ms, same[0].origin, squares**0.5 / samples / mean_ms or None, sum(entry.visits for entry in same), samples)


def _variance(entry: Entry) -> float:
    """Return the variance of one sample, in square milliseconds."""
    return ((entry.relative_spread or 0.0) * entry.latency_ms) ** 2 * entry.samples
