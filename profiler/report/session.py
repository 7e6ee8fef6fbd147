"""How well a table's figures are known: the device's speeds while it was measured, the interval of each block, what ended measuring it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from luts.records import Outcome
from luts.table import LatencyTable
from profiler.measuring.evidence import INTERVAL, Evidence
from profiler.measuring.quality import SLOW_FACTOR, slowness
from profiler.measuring.stopping import ACCEPTED, BY_ACCEPTED, BY_TARGET, TARGET
from profiler.report import display

WORST_SHOWN = 10
MODE_WORDS = {"chain": "blocks in chains", "alone": "blocks alone", "network": "whole networks", "anchor": "the anchor"}
CORRECTED_MODES = ("chain", "alone", "network")
RULE_WORDS = {BY_TARGET: f"known to {display.percent(TARGET, 0)}", BY_ACCEPTED: f"known to {display.percent(ACCEPTED, 0)}"}


@dataclass(frozen=True)
class UncertainBlock:
    """A block and the half-width of its 95 % interval, as a share of its latency."""

    key: str
    latency_ms: float
    relative_interval: float
    visits: int


@dataclass(frozen=True)
class Session:
    """How a table came to be known. What was not noted, as in older tables, is None or empty.

    `entries` is how many blocks have each origin; `slow_shares` the share of time in a slow state by mode; `anchor` (round,
    level) the anchor's time over that of its fastest round; `slowest_workers` by mode how much slower the slowest worker process was
    than the fast ones, which figures are corrected for; `rules` rule → mode → how many subjects it ended.
    """

    mode: str
    entries: Mapping[str, int]
    visits: int
    workers: int
    seconds: float
    slow_shares: Mapping[str, float]
    anchor: tuple[tuple[int, float], ...]
    slowest_workers: Mapping[str, float]
    intervals: tuple[float, ...]
    worst: tuple[UncertainBlock, ...]
    rules: Mapping[str, Mapping[str, int]]


def session(table: LatencyTable, evidence: Evidence, outcomes: Iterable[Outcome]) -> Session:
    """Return what a store's visits and outcomes say of its table."""
    visits = [visit for visit in evidence.visits if visit.discarded is None]
    known = [
        UncertainBlock(entry.block.key, entry.latency_ms, INTERVAL * entry.relative_spread, entry.visits)
        for entry in table.entries.values() if entry.relative_spread is not None and entry.visits
    ]  # fmt: skip
    known.sort(key=lambda block: -block.relative_interval)
    rules: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        rules.setdefault(outcome.stopped_by, Counter())[outcome.mode] += 1
    measured = {visit.mode for visit in visits}
    return Session(
        mode=table.mode,
        entries=dict(Counter(entry.origin for entry in table.entries.values())),
        visits=len(visits),
        workers=len({visit.worker for visit in visits}),
        seconds=evidence.seconds(),
        slow_shares={mode: _slow_share(slowness(evidence, mode)) for mode in MODE_WORDS if mode in measured},
        anchor=tuple(evidence.anchor_levels().items()),
        slowest_workers={mode: evidence.drift(mode).largest for mode in CORRECTED_MODES if evidence.drift(mode).levels},
        intervals=tuple(block.relative_interval for block in reversed(known)),
        worst=tuple(known[:WORST_SHOWN]),
        rules={rule: dict(counts) for rule, counts in rules.items()},
    )


def _slow_share(slowness_of_visits: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(slowness_of_visits[slowness_of_visits > SLOW_FACTOR].sum() / slowness_of_visits.sum())


def sentence(found: Session) -> str:
    """Return how well the blocks are known, in words."""
    if not found.intervals:
        return "How well the blocks' figures repeat is unknown: the table holds no visits to tell it from."
    intervals = np.array(found.intervals)
    return (
        f"The 95{display.NARROW_SPACE}% interval of a block's latency is ±{display.percent(float(np.median(intervals)))} of it at the median block, "
        f"±{display.percent(float(intervals[-1]))} at the worst; {display.percent(float((intervals <= ACCEPTED).mean()), 0)} of "
        f"{display.count(len(intervals))} blocks are known to {display.percent(ACCEPTED, 0)} or better."
    )


def anchor_sentence(found: Session) -> str:
    """Return what the anchor block says of the device's drift, in words."""
    if not found.anchor:
        return "Drift is unknown: no anchor block was visited beside the others."
    worst = max(level for _, level in found.anchor) - 1
    return f"In the slowest of {len(found.anchor)} rounds the anchor block took {display.percent(worst)} longer than in the fastest."


def figures(found: Session) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the intervals."""
    pairs = [(f"Blocks {origin}", display.count(count)) for origin, count in sorted(found.entries.items())]
    if found.visits:
        pairs += [("Visits", display.count(found.visits)), ("Fresh worker processes", display.count(found.workers))]
        pairs += [("Time spent measuring", f"{display.count(found.seconds)} s")] if found.seconds else []
    pairs += [
        (f"Slowest worker process, {MODE_WORDS[mode]}", f"+{display.percent(share)}, corrected") for mode, share in found.slowest_workers.items()
    ]
    pairs += [(f"Time in a slow state, {MODE_WORDS[mode]}", display.percent(share, 0)) for mode, share in found.slow_shares.items()]
    return [*pairs, *([] if found.rules else [("Which rule ended the blocks", "unknown")])]


def rule_rows(found: Session) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return the modes, and rule → how many subjects of each mode it ended; the one that ended most first."""
    modes = [mode for mode in MODE_WORDS if any(mode in counts for counts in found.rules.values())]
    rules = sorted(found.rules, key=lambda rule: -sum(found.rules[rule].values()))
    return [MODE_WORDS[mode] for mode in modes], [(RULE_WORDS.get(rule, rule), [found.rules[rule].get(mode, 0) for mode in modes]) for rule in rules]
