"""Collecting a thinned table: some resolutions in full and the spot checks, then what these missed, then the interpolation of the rest.

What the checks said is noted in the store before anything rests on it, so a killed collection goes on with the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from luts.interpolation import Measured, interpolate
from luts.store import MeasurementStore, Subject
from luts.table import MODES, LatencyTable
from profiler.measuring.plan import MeasurementPlan, anchor_of, make_plan
from profiler.measuring.rounds import CollectSummary
from profiler.measuring.settings import ProtocolSettings
from profiler.measuring.thinning import TOLERANCE, Thinning
from supernets.places import distinct_blocks
from supernets.space import Architecture

NOTE = "thinning"  # of a store's provenance
CAP_SHARE = 0.85  # of the full plan's cap on time for what is left of it: the ImageNet space ends within six minutes then

Measure: TypeAlias = Callable[[MeasurementPlan, float | None], CollectSummary]  # a plan, within a time budget in seconds or its own limits


@dataclass(frozen=True)
class ThinnedTable:
    """How much of a thinned table was measured, how far off the spot checks were (`misses`, relative), and the share of the time that was saved."""

    resolutions: tuple[int, ...]
    measured_blocks: int
    interpolated_blocks: int
    misses: tuple[float, ...]
    saved_share: float

    def sentence(self) -> str:
        """Return that in one sentence."""
        blocks = self.measured_blocks + self.interpolated_blocks
        sizes = np.abs(self.misses)
        return (
            f"thinned: resolutions {', '.join(map(str, self.resolutions))} in full, {self.measured_blocks} of {blocks} blocks measured and "
            f"{self.interpolated_blocks} interpolated, which saves about {self.saved_share:.0%} of the time; {len(sizes)} spot checks were off by "
            f"{np.median(sizes):.1%} at the median and {sizes.max():.1%} at most, and what {int((sizes > TOLERANCE).sum())} of them missed by more "
            f"than {TOLERANCE:.0%} was measured"
        )


def thinned_plan(thinning: Thinning, settings: ProtocolSettings, seed: int, further: tuple[Architecture, ...] = (),
                 in_chains: bool = True) -> MeasurementPlan:  # fmt: skip
    """Return the plan that measures the blocks of a thinning's subnets and of further ones, and networks of the whole space."""
    plan = make_plan(thinning.space, settings, seed, (*thinning.architectures, *further), in_chains)
    anchor = anchor_of({block.key: block for block in thinning.blocks})  # whatever else is measured
    return replace(plan, identity={**plan.identity, "thinned": list(thinning.resolutions)}, anchor=anchor)


def collect_thinned(thinning: Thinning, store: MeasurementStore, settings: ProtocolSettings, seed: int, measure: Measure,
                    time_budget_s: float | None = None, in_chains: bool = True) -> CollectSummary:  # fmt: skip
    """Make with `measure` the visits that are needed, interpolate the other blocks, and return what was done.

    The checks are judged after the rounds that everything takes part in; further ones come when it is known what is
    measured. The plan's cap on time shrinks with the plan. As long as visits are still to make, nothing is interpolated.
    """
    before = None
    if NOTE not in store.provenance():
        rounds = settings.rounds if time_budget_s is None else 1
        before = measure(thinned_plan(thinning, replace(settings, rounds=rounds, most_rounds=rounds), seed, in_chains=in_chains), None)
        if not before.complete:
            return before
        _note_checks(thinning, store, settings, seed)
    note = store.provenance()[NOTE]
    capped = replace(settings, time_cap_s=math.ceil(CAP_SHARE * settings.time_cap_s * (1 - note["saved_share"])))
    further = tuple(Architecture.from_dict(architecture) for architecture in note["further"])
    summary = _joined(before, measure(thinned_plan(thinning, capped, seed, further, in_chains), time_budget_s))
    if summary.complete and not (summary.nothing_to_do and store.figures()):
        _interpolate_rest(thinning, store)
    return summary


def thinned_table(store: MeasurementStore) -> ThinnedTable | None:
    """Return what a store says of its thinning; None where it was not thinned, or is not interpolated yet."""
    note = store.provenance().get(NOTE)
    if note is None:
        return None
    entries = LatencyTable.of_store(store).entries.values()
    interpolated = sum(entry.origin == "interpolated" for entry in entries)
    if not interpolated:
        return None
    misses = tuple(check["interpolated_ms"] / check["measured_ms"] - 1 for check in note["checks"])
    return ThinnedTable(tuple(note["resolutions"]), len(entries) - interpolated, interpolated, misses, note["saved_share"])


def _note_checks(thinning: Thinning, store: MeasurementStore, settings: ProtocolSettings, seed: int) -> None:
    checks = thinning.spot_checks(_measured(LatencyTable.of_store(store)))
    further = thinning.further(checks)
    spent_s = thinned_plan(thinning, settings, seed, further).counts().seconds()
    note = {
        "resolutions": list(thinning.resolutions),
        "checks": [check.to_dict() for check in checks],
        "further": [architecture.to_dict() for architecture in further],
        "saved_share": 1 - spent_s / make_plan(thinning.space, settings, seed).counts().seconds(),
    }
    store.change_provenance(lambda known: {**known, NOTE: note})


def _interpolate_rest(thinning: Thinning, store: MeasurementStore) -> None:
    figures, blocks = [], distinct_blocks(thinning.space)
    for mode in MODES:
        measured = _measured(LatencyTable.of_store(store, mode))
        figures += interpolate(measured, [block for block in blocks if block not in measured], mode)
    found = {figure.key for figure in figures}
    store.add_subjects(Subject.of_block(block) for block in blocks if block.key in found)
    store.set_interpolations(figures)


def _measured(table: LatencyTable) -> Measured:
    return {entry.block: entry.latency_ms for entry in table.entries.values() if entry.origin != "interpolated"}


def _joined(before: CollectSummary | None, after: CollectSummary) -> CollectSummary:
    """Return two measurements of one session, the second of all that the first measured and more, as one."""
    if before is None:
        return after
    return replace(
        after,
        measured_visits=before.measured_visits + after.measured_visits,
        skipped_visits=after.skipped_visits - before.measured_visits,
        discarded_visits=before.discarded_visits + after.discarded_visits,
        seconds=before.seconds + after.seconds,
    )
