"""Latency predictors fitted and judged on the whole networks measured beside a table's blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predictors import latency
from predictors.base import LatencyPredictor, MissingPackageError
from predictors.latency.choosing import choose
from predictors.population import Numbers
from predictors.quality import LatencyQuality, judge_latencies
from supernets.space import Architecture, ArchitectureError, Population, SearchSpace

if TYPE_CHECKING:
    from luts.table import LatencyTable

INTERVAL_COVERAGE = 0.9  # of the intervals that are judged


@dataclass(frozen=True)
class MeasuredNetworks:
    """Whole networks of a space with their latencies (n,), and those of each half of their visits (n, 2), NaN where unknown."""

    population: Population
    latencies_ms: Numbers
    halves_ms: Numbers

    def __len__(self) -> int:
        return len(self.population)

    def __getitem__(self, rows: Any) -> MeasuredNetworks:
        return MeasuredNetworks(self.population[rows], self.latencies_ms[rows], self.halves_ms[rows])


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


def judge(predictor: LatencyPredictor, held_out: MeasuredNetworks) -> LatencyQuality | None:
    """Return the predictor's quality on networks it was not fitted on, and set it as its `quality`; None without any."""
    predictor.quality = None
    if len(held_out):
        known = predictor.cross_validation
        predictor.quality = judge_latencies(
            predictor.predict(held_out.population), held_out.latencies_ms, 1 if known is None else known.networks, held_out.halves_ms,
            None if known is None else predictor.predict_interval(held_out.population, INTERVAL_COVERAGE),
        )  # fmt: skip
    return predictor.quality


def judge_left_out(predictor: LatencyPredictor, fitted_on: MeasuredNetworks) -> LatencyQuality | None:
    """Return the predictor's quality on its own networks, each predicted without it, and set it as its `quality`; None with one network.

    Its intervals rest on these same errors, so of their coverage this says nothing.
    """
    known = predictor.cross_validation
    predictor.quality = None
    if known is not None:
        predicted_ms = fitted_on.latencies_ms * np.exp(-known.log_ratios.mean(axis=0))
        predictor.quality = judge_latencies(predicted_ms, fitted_on.latencies_ms, known.networks, fitted_on.halves_ms, judged_on=known.method)
    return predictor.quality


def fit_and_judge(space: SearchSpace, table: LatencyTable, names: Iterable[str] | None = None) -> dict[str, LatencyPredictor]:
    """Return name → predictor fitted on the table's calibration networks, its `quality` told by the held-out ones; see also `fit_all`, `choose`.

    Without held-out networks the qualities stay None: a predictor is never judged on what it was fitted to.

    Raises:
        MissingBlockError: the table lacks blocks that the space allows.
        ValueError: the table holds no calibration network of the space.
        PlugInError: a predictor of another package cannot be imported.
    """
    calibration, held_out = measured_networks(space, table, "calibration"), measured_networks(space, table, "held_out")
    if not len(calibration):
        raise ValueError(
            f"the table holds no calibration network of space {space.name!r}; measure some with: "
            f"profiler collect --space {space.name} --device {table.condition.device} --out FILE"
        )
    predictors = fit_all(space, table, calibration, names)
    for predictor in predictors.values():
        judge(predictor, held_out)
    return predictors


def fit_all(space: SearchSpace, table: LatencyTable, networks: MeasuredNetworks,
            names: Iterable[str] | None = None) -> dict[str, LatencyPredictor]:  # fmt: skip
    """Return name → predictor fitted on these networks, by default each there is; those whose package is not installed are left out.

    Raises:
        MissingBlockError: the table lacks blocks that the space allows.
        PlugInError: a predictor of another package cannot be imported.
    """
    predictors = {}
    for name in latency.ladder() if names is None else names:
        with contextlib.suppress(MissingPackageError):
            predictors[name] = latency.create(name, space, table).fit(networks.population, networks.latencies_ms)
    return predictors


def best_of_table(space: SearchSpace, table: LatencyTable) -> LatencyPredictor:
    """Return the predictor that a table allows: the one chosen on its calibration networks, or the plain sum where it has none.

    Raises:
        MissingBlockError: the table lacks blocks of the space.
    """
    if not len(measured_networks(space, table, "calibration")):
        return latency.create("additive", space, table)
    fitted = fit_and_judge(space, table)
    return fitted[choose(fitted)]
