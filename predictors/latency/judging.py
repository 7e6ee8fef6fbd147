"""Latency predictors fitted and judged on the whole networks measured beside a table's blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from predictors import latency
from predictors.base import LatencyPredictor
from predictors.population import Numbers
from predictors.quality import LatencyQuality, judge_latencies
from supernets.space import Architecture, ArchitectureError, Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

NAMES = tuple(latency.LATENCY_PREDICTORS)


@dataclass(frozen=True)
class MeasuredNetworks:
    """Whole networks of a space with their latencies (n,), and those of each half of their visits (n, 2), NaN where unknown."""

    population: Population
    latencies_ms: Numbers
    halves_ms: Numbers

    def __len__(self) -> int:
        return len(self.population)


def measured_networks(space: SearchSpace, table: LatencyTable, role: str) -> MeasuredNetworks:
    """Return the networks of a role that belong to the (restricted) space; a table may hold others too."""
    found = [network for network in table.networks(role) if _contains(space, network.architecture)]
    population = space.encode(network.architecture for network in found if network.architecture is not None)
    halves_ms = np.array([network.halves_ms for network in found], dtype=np.float64).reshape(len(found), 2)
    return MeasuredNetworks(population, np.array([network.latency_ms for network in found], dtype=np.float64), halves_ms)


def _contains(space: SearchSpace, architecture: Architecture | None) -> bool:
    if architecture is None or architecture.space != space.name:
        return False
    try:
        space.architecture(architecture)
    except ArchitectureError:
        return False
    return True


def judge(predictor: LatencyPredictor, held_out: MeasuredNetworks, calibration_count: int) -> LatencyQuality | None:
    """Return the predictor's quality on networks it was not fitted on, and set it as its `quality`; None without any."""
    predictor.quality = None
    if len(held_out):
        predicted_ms = predictor.predict(held_out.population)
        predictor.quality = judge_latencies(predicted_ms, held_out.latencies_ms, calibration_count, held_out.halves_ms)
    return predictor.quality


def fit_and_judge(space: SearchSpace, table: LatencyTable, names: Iterable[str] = NAMES) -> dict[str, LatencyPredictor]:
    """Return name → predictor fitted on the table's calibration networks, its `quality` told by the held-out ones.

    Without held-out networks the qualities stay None: a predictor is never judged on what it was fitted to.

    Raises:
        MissingBlockError: the table lacks blocks that the space allows.
        ValueError: the table holds no calibration network of the space.
    """
    calibration, held_out = measured_networks(space, table, "calibration"), measured_networks(space, table, "held_out")
    if not len(calibration):
        raise ValueError(
            f"the table holds no calibration network of space {space.name!r}; measure some with: "
            f"profiler collect --space {space.name} --device {table.condition.device} --out FILE"
        )
    predictors = {name: latency.create(name, space, table).fit(calibration.population, calibration.latencies_ms) for name in names}
    for predictor in predictors.values():
        judge(predictor, held_out, len(calibration))
    return predictors
