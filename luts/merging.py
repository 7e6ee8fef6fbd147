"""Bringing the measurements of one store into another of the same condition: every visit once, nothing averaged.

Two collections by one plan give their visits the same ids. Such visits are different measurements if they were made at
different times: then both stay, the later one under an id of its own.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from luts.facts import to_json
from luts.records import KINDS, Figure, Outcome, VisitRecord
from luts.store import MeasurementStore, StoreError
from luts.visits import Samples

SUFFIX_DIGITS = 12  # of a visit's digest in the id of its own


@dataclass(frozen=True)
class WholeVisit:
    """A visit with its subjects' keys and samples, shape (n_subjects, n_cycles)."""

    record: VisitRecord
    subjects: tuple[str, ...]
    samples: Samples

    @property
    def digest(self) -> str:
        """What makes it this measurement and no other; neither its id nor its place in a store."""
        record = self.record
        said = [record.mode, record.worker, record.discarded, record.repeats, record.state_before, record.state_after, self.subjects]
        return hashlib.sha256(to_json(said).encode() + np.ascontiguousarray(self.samples, "<i8").tobytes()).hexdigest()

    @property
    def began(self) -> tuple[str, int] | None:
        """By which worker and when it was begun; None where the device does not tell the time."""
        time_ns = self.record.state_before.get("unix_time_ns")
        return None if time_ns is None else (self.record.worker, time_ns)


@dataclass(frozen=True)
class MergeSummary:
    """How many visits and figures were added, and how many visits were there already."""

    visits: int
    visits_before: int
    figures: int


def merge_into(store: MeasurementStore, other: MeasurementStore, name: str | None = None) -> MergeSummary:
    """Add all that the other store measured; `name` is what errors call the store, if not by its own.

    Raises:
        StoreError: the conditions differ (the text names the fields), one has none or holds sampled accuracies, or the two
            say different things of one visit, subject or figure.
    """
    name = name or store.name
    _check_alike(store, other, name)
    store.add_subjects(other.subjects())
    there = {visit.digest: visit for visit in whole_visits(store)}
    begun = {visit.record.plan_id: visit.began for visit in there.values() if visit.record.discarded is None}
    visits = sorted(whole_visits(other), key=lambda visit: visit.record.number)  # blocks and networks in one order of time
    fresh = [visit for visit in visits if visit.digest not in there]
    names = f"{name} and in {other.name}"
    later = 1 + max((visit.record.round for visit in there.values()), default=-1) if len(fresh) == len(visits) else 0  # rounds of other sessions
    store.copy_visits(
        (replace(visit.record, plan_id=_free_id(visit, begun, names), round=visit.record.round + later), visit.subjects, visit.samples)
        for visit in fresh
    )
    figures = _merge_figures(store, other, name)
    _merge_findings(store, other)
    _merge_facts(store, other)
    return MergeSummary(len(fresh), len(visits) - len(fresh), figures)


def whole_visits(store: MeasurementStore) -> Iterator[WholeVisit]:
    """Yield every visit of a store, discarded ones too, in order of time within each kind of subject."""
    for kind in KINDS:
        for _, places in itertools.groupby(store.samples(kind, include_discarded=True), key=lambda place: place[1].number):
            subjects, records, samples = zip(*places, strict=True)
            yield WholeVisit(records[0], tuple(subject.key for subject in subjects), np.stack(samples))


def _check_alike(store: MeasurementStore, other: MeasurementStore, name: str) -> None:
    own, others = store.condition(), other.condition()
    for each, called, condition in ((store, name, own), (other, other.name, others)):
        if condition is None:
            raise StoreError(f"{called} holds no latencies; merge tables of `profiler collect` or `profiler table import`")
        if each.accuracies():
            raise StoreError(f"{called} holds sampled accuracies; merge is for latency tables")
    if own is not None and others is not None and own != others:
        differences = "; ".join(f"{name} {mine!r} and {theirs!r}" for name, (mine, theirs) in own.differences(others).items())
        raise StoreError(f"{name} and {other.name} were measured under different conditions ({differences}); merge tables of one condition")


def _free_id(visit: WholeVisit, begun: dict[str, tuple[str, int] | None], names: str) -> str:
    plan_id = visit.record.plan_id
    if visit.record.discarded is not None or plan_id not in begun:
        return plan_id
    if visit.began is not None and visit.began == begun[plan_id]:
        raise StoreError(
            f"visit {plan_id!r} is in {names} with different samples, though made at one time by one worker; "
            "one of the files was changed: merge the unchanged one"
        )
    return f"{plan_id}+{visit.digest[:SUFFIX_DIGITS]}"


def _merge_figures(store: MeasurementStore, other: MeasurementStore, name: str) -> int:
    figures: dict[tuple[str, str], Figure] = {(figure.key, figure.mode): figure for figure in store.figures()}
    before = len(figures)
    for figure in other.figures():
        if figures.setdefault((figure.key, figure.mode), figure) != figure:
            raise StoreError(
                f"{name} and {other.name} have different {figure.origin} figures of {figure.key!r} (mode {figure.mode}), "
                "of which no samples are known; leave one of them out"
            )
    if len(figures) > before:
        store.set_figures(list(figures.values()))
    return len(figures) - before


def _merge_findings(store: MeasurementStore, other: MeasurementStore) -> None:
    """Keep every warning, and of two outcomes for one subject the more certain."""
    outcomes = {(outcome.key, outcome.mode): outcome for outcome in store.outcomes()}
    for outcome in other.outcomes():
        known = outcomes.get((outcome.key, outcome.mode))
        if known is None or _width(outcome) < _width(known):
            outcomes[outcome.key, outcome.mode] = outcome
    store.set_outcomes(list(outcomes.values()))
    warnings = store.warnings()
    store.set_warnings([*warnings, *(warning for warning in other.warnings() if warning not in warnings)])


def _width(outcome: Outcome) -> float:
    return np.inf if outcome.relative_interval is None else outcome.relative_interval


def _merge_facts(store: MeasurementStore, other: MeasurementStore) -> None:
    """Keep every session; of two plans only the space, if it is the same: neither plan made all the visits."""
    own, others = store.provenance(), other.provenance()
    joined: dict[str, Any] = {**others, **own}
    for name in joined:
        if isinstance(own.get(name), list) and isinstance(others.get(name), list):
            joined[name] = own[name] + [item for item in others[name] if item not in own[name]]
    store.set_provenance(joined)
    plan, others_plan = store.collection(), other.collection()
    if plan != others_plan and others_plan is not None:
        same = plan is None or plan.get("space") == others_plan.get("space")
        store.set_collection(others_plan if plan is None else {"space": plan.get("space") if same else None})
