"""Measuring whole networks, given as blocks or as files: calibration, verification of exported files, finalists of a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agents.base import DeviceAgent, DeviceError
from luts.store import MeasurementStore
from luts.table import NetworkMeasurement, network_measurements
from profiler.measuring.evidence import Evidence
from profiler.measuring.models import ModelMaker
from profiler.measuring.plan import NetworkItem, network_plan
from profiler.measuring.rounds import CollectSummary, Progress, Sleep, run_plan
from profiler.measuring.session import condition_of
from profiler.measuring.settings import ProtocolSettings

__all__ = ["MeasuredNetworks", "NetworkItem", "measure_networks"]


@dataclass(frozen=True)
class MeasuredNetworks:
    """The measurements, one an item and in the items' order, and what the session did for them."""

    measurements: tuple[NetworkMeasurement, ...]
    summary: CollectSummary


def measure_networks(agent: DeviceAgent, store: MeasurementStore, items: Sequence[NetworkItem], settings: ProtocolSettings, *, seed: int = 0,
                     session: str = "", progress: Progress | None = None, model_maker: ModelMaker | None = None, sleep: Sleep = time.sleep,
                     clock: Callable[[], float] = time.time) -> MeasuredNetworks:  # fmt: skip
    """Measure networks side by side, interleaved in random order over the settings' rounds; killed, it goes on where it was.

    Items that this session (a name of your choice) measured before are not measured again; a new session measures anew.

    Raises:
        ValueError: an item is given twice.
        StoreError: the store holds another condition.
        StoreFullError: the disk is full; what was measured is kept.
        DeviceError: the device or its worker failed, or kept throttling; what was measured is kept.
    """
    plan = network_plan(items, settings, seed, session)
    store.set_condition(condition_of(agent.info()))
    evidence = Evidence.of_store(store)
    summary = run_plan(agent, store, plan, evidence, model_maker=model_maker, progress=progress, sleep=sleep, clock=clock)
    found = {measurement.key: measurement for measurement in network_measurements(store)}
    unmeasured = [item.name for key, item in plan.networks.items() if key not in found]
    if unmeasured:
        raise DeviceError(
            f"no visit of network {unmeasured[0]!r} counts, the device was throttled in all; run the same command again when it is cool"
        )
    return MeasuredNetworks(tuple(found[key] for key in plan.networks), summary)
