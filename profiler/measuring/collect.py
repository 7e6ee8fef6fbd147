"""Measuring a whole space into a store: its blocks alone and in chains, and whole networks to calibrate and to judge by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from device_agents.base import DeviceAgent
from luts.store import MeasurementStore, StoreError
from profiler.measuring.evidence import Evidence
from profiler.measuring.models import ModelMaker
from profiler.measuring.plan import MeasurementPlan
from profiler.measuring.rounds import CollectSummary, Progress, Sleep, run_plan
from profiler.measuring.session import condition_of
from profiler.measuring.settings import LIMITS
from supernets.space import SearchSpace

__all__ = ["CollectSummary", "collect"]


def collect(space: SearchSpace, agent: DeviceAgent, store: MeasurementStore, plan: MeasurementPlan, progress: Progress | None = None,
            model_maker: ModelMaker | None = None, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.time,
            time_budget_s: float | None = None, evidence: Evidence | None = None) -> CollectSummary:  # fmt: skip
    """Measure what a space's plan still lacks in the store, and return what was done; killed, it goes on where it was.

    A store holds one plan; the same plan with more rounds, or with a time budget over all sessions, extends it. `evidence`
    of the store, where given, is brought up to date.

    Raises:
        ValueError: the plan was made for another space.
        StoreError: the store holds another condition, or another plan; the text names what differs.
        StoreFullError: the disk is full; what was measured is kept.
        DeviceError: the device or its worker failed; what was measured is kept.
    """
    if plan.identity.get("space") != space.name:
        raise ValueError(f"the plan is for space {plan.identity.get('space')!r}, not {space.name!r}; make it with make_plan from the same space")
    store.set_condition(condition_of(agent.info()))
    _bind(store, plan.identity)
    known = Evidence.of_store(store) if evidence is None else evidence
    return run_plan(agent, store, plan, known, model_maker=model_maker, progress=progress, sleep=sleep, clock=clock, time_budget_s=time_budget_s)


def _bind(store: MeasurementStore, identity: dict[str, Any]) -> None:
    """Bind the store to a plan, or to one that differs from its own only by its limits; the largest number of rounds stays."""
    present = store.collection()
    if present is None:
        store.set_collection(identity)
        return
    if "settings" not in present:
        raise StoreError(f"{store.name} was merged or imported and has no plan to go on with; collect into another file, and merge the two")
    old, new = _flat(present), _flat(identity)
    names = sorted((old.keys() | new.keys()) - set(LIMITS))
    differences = [f"{name} {old.get(name)!r} there, {new.get(name)!r} now" for name in names if old.get(name) != new.get(name)]
    if differences:
        raise StoreError(f"{store.name} was begun with another plan ({'; '.join(differences)}); give the same settings, or collect into another file")
    if new["rounds"] > old["rounds"]:
        store.set_collection(identity)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in identity.items() if name != "settings"}, **identity["settings"]}
