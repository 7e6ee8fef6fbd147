"""Latencies measured while a search runs: each generation's networks side by side on the device, each network once.

After MnasNet (Tan et al., CVPR 2019), which measures every network it samples. What is measured is kept in a store like all
measurements, so a killed search goes on, and another search of the same device knows it too. A measurement takes
seconds, so a search that asks for latencies is given the multiply-adds to find its lowest-latency network by (`macs_of`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from device_agents.base import DeviceAgent
from luts.store import MeasurementStore
from luts.table import NetworkMeasurement
from profiler.measuring.models import ModelMaker
from profiler.measuring.networks import measure_networks
from profiler.measuring.plan import NetworkItem
from profiler.measuring.settings import ProtocolSettings
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Architecture, Population, SearchSpace

__all__ = ["LiveLatencies", "macs_of"]

Figures: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
ROLE = "searched"
# Three fresh processes a generation: finalists are measured anew, and better, when the search is done.
SETTINGS = ProtocolSettings(rounds=3, most_rounds=3, network_visits=8, network_runs=10, network_warmup=2)


class LiveLatencies:
    """A function from populations to latencies measured on a device, in milliseconds, for `search.driver.search`.

    The agent and the store are the caller's, who closes both. `progress` is called with the visits made and asked for of a
    generation.
    """

    origin = "measured"

    def __init__(
        self, space: SearchSpace, agent: DeviceAgent, store: MeasurementStore, settings: ProtocolSettings = SETTINGS, *,
        progress: Callable[[int, int], None] | None = None, model_maker: ModelMaker | None = None,
    ) -> None:  # fmt: skip
        self._space, self._agent, self._store, self._settings = space, agent, store, settings
        self._progress, self._model_maker = progress, model_maker
        self._known: dict[Architecture, NetworkMeasurement] = {}

    @property
    def measurements(self) -> tuple[NetworkMeasurement, ...]:
        """What was asked for until now, in order."""
        return tuple(self._known.values())

    def __call__(self, population: Population) -> Figures:
        """Return the measured latencies, shape (n,); see `measured`."""
        return np.array([measurement.latency_ms for measurement in self.measured(self._space.decode(population))])

    def measured(self, architectures: Sequence[Architecture]) -> list[NetworkMeasurement]:
        """Return the measurements of these architectures in their order; those that the store lacks are measured, interleaved.

        Raises:
            ArchitectureError: the space has no such architecture.
            StoreError: the store holds another condition.
            StoreFullError: the disk is full; what was measured is kept.
            DeviceError: the device or its worker failed, or kept throttling; what was measured is kept.
        """
        wanted = [self._space.architecture(architecture) for architecture in architectures]
        lacking = [architecture for architecture in dict.fromkeys(wanted) if architecture not in self._known]
        if lacking:
            items = [NetworkItem(_name(each), tuple(self._space.blocks(each)), each, ROLE) for each in lacking]
            found = measure_networks(
                self._agent, self._store, items, self._settings, session=ROLE, progress=self._progress, model_maker=self._model_maker
            )
            self._known.update(zip(lacking, found.measurements, strict=True))
        return [self._known[architecture] for architecture in wanted]


def macs_of(space: SearchSpace) -> AdditiveCost:
    """Return the multiply-adds of populations: what a search with measured latencies finds its first network by."""
    return AdditiveCost(space, block_macs)


def _name(architecture: Architecture) -> str:
    """Return a name that stands for the architecture alone, so that its measurement is found again."""
    return hashlib.sha256(json.dumps(architecture.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
