"""Measuring a whole space into a store: its blocks alone and in chains, and whole networks to calibrate and to judge by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from device_agents.base import DeviceAgent
from luts.store import MeasurementStore, StoreError
from profiler.measuring.models import ModelMaker, default_model_maker
from profiler.measuring.plan import MeasurementPlan
from profiler.measuring.rounds import CollectSummary, Progress, Sleep, declare_subjects, models_of, pending_visits, run_plan
from profiler.measuring.session import condition_of, note_session
from supernets.space import SearchSpace

__all__ = ["CollectSummary", "collect"]


def collect(space: SearchSpace, agent: DeviceAgent, store: MeasurementStore, plan: MeasurementPlan, progress: Progress | None = None,
            model_maker: ModelMaker | None = None, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.time) -> CollectSummary:  # fmt: skip
    """Measure what a space's plan still lacks in the store, and return what was done; killed, it goes on where it was.

    A store holds one plan; the same plan with more rounds extends it.

    Raises:
        ValueError: the plan was made for another space.
        StoreError: the store holds another condition, or another plan; the text names what differs.
        StoreFullError: the disk is full; what was measured is kept.
        DeviceError: the device or its worker failed; what was measured is kept.
    """
    if plan.identity.get("space") != space.name:
        raise ValueError(f"the plan is for space {plan.identity.get('space')!r}, not {space.name!r}; make it with make_plan from the same space")
    info = agent.info()
    store.set_condition(condition_of(info))
    _bind(store, plan.identity)
    declare_subjects(store, plan)
    if pending_visits(store, plan):
        note_session(store, info, clock())
    return run_plan(agent, store, plan, models_of(plan, model_maker or default_model_maker(agent.model_format, info.batch)), progress, sleep)


def _bind(store: MeasurementStore, identity: dict[str, Any]) -> None:
    """Bind the store to a plan, or to one that differs from its own only by more rounds."""
    present = store.collection()
    if present is None:
        store.set_collection(identity)
        return
    old, new = _flat(present), _flat(identity)
    rounds, old_rounds = new.pop("rounds"), old.pop("rounds")
    differences = [
        f"{name} {old.get(name)!r} there, {new.get(name)!r} now" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)
    ]
    if differences:
        raise StoreError(f"{store.path} was begun with another plan ({'; '.join(differences)}); give the same settings, or collect into another file")
    if rounds > old_rounds:
        store.set_collection(identity)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in identity.items() if name != "settings"}, **identity["settings"]}
