"""Fitting latency predictors, to a table's networks or to a few measured for it: the workflow behind `profiler fit latency`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_agents.base import DeviceAgent
from luts.condition import Condition
from luts.store import StoreError
from luts.table import LatencyTable
from predictors import latency as latency_predictors
from predictors.base import LatencyPredictor
from predictors.latency.choosing import FEWEST_NETWORKS, choose, networks_to_add
from predictors.latency.judging import MeasuredNetworks, fit_and_judge, judge_left_out, measured_networks
from predictors.quality import LatencyQuality
from profiler.collecting import narrowed
from profiler.coverage import covered_space
from profiler.measuring.informative import informative_networks
from profiler.measuring.plan import CALIBRATION, NetworkItem
from profiler.trust import TrustCheck
from profiler.verifying import measure_items
from supernets.space import SearchSpace
from supernets.spaces import space as search_space

NETWORKS_FILE = "networks.lut"
WITHOUT_TABLE = ("flops_line", "physical")  # what can be fitted without one; the second is saved, the first stands beside it

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Fitted:
    """The saved predictor's name, the quality of each, how well the saved one's mean error is known, and what would make it known better.

    `mape_half_width_percent` is of a 95 % interval by cross-validation, None with too few networks for one; `networks_to_add`
    would bring it to half a point. `left_out` are predictors whose package is not installed, `warnings` of what was measured for it.
    """

    saved: str
    qualities: dict[str, LatencyQuality]
    mape_half_width_percent: float | None
    networks_to_add: int
    left_out: tuple[str, ...]
    warnings: tuple[TrustCheck, ...] = ()

    def sentences(self) -> list[str]:
        """Return what to tell beside the qualities."""
        told = [f"{name} is left out: its package is not installed" for name in self.left_out]
        if self.mape_half_width_percent is not None and self.networks_to_add:
            known = f"the mean error of {self.saved} is known to {self.mape_half_width_percent:.1f} points"
            told.append(f"{known}; {self.networks_to_add} more calibration networks would bring that to half a point")
        return told


def space_of_table(table: str | Path, name: str | None, resolutions: str | None) -> SearchSpace:
    """Return the space to fit for: the named one or the table's own, with only these resolutions, or all that the table covers.

    Raises:
        StoreError: no space was named and the table knows none.
    """
    opened = LatencyTable.open(table)
    own = opened.space
    if name is None and own is None:
        raise StoreError(f"{table} does not say which space it was measured for; name one with --space")
    space = search_space(name or own or "")
    return covered_space(space, opened) if resolutions is None else narrowed(space, resolutions)


def fit_latency(space: SearchSpace, table: str | Path, out: Path) -> Fitted:
    """Fit the latency predictors on a table's networks and save the one that cross-validation chooses.

    Without held-out networks the qualities are those of cross-validation; each says which it is.

    Raises:
        MissingBlockError: the table lacks blocks of the space.
        ValueError: it holds no networks to calibrate on.
    """
    opened = LatencyTable.open(table)
    fitted, calibration = fit_and_judge(space, opened), measured_networks(space, opened, CALIBRATION)
    judged = {name: predictor.quality or judge_left_out(predictor, calibration) for name, predictor in fitted.items()}
    chosen = choose(fitted)
    fitted[chosen].save(out)
    return _fitted(fitted[chosen], judged, tuple(name for name in latency_predictors.names() if name not in fitted))


def fit_latency_without_table(space: SearchSpace, agent: DeviceAgent, count: int, out: Path, seed: int, report: Report) -> Fitted:
    """Measure a few informative networks on a device, fit what needs no table to them, and save the physical predictor.

    The measurements stay beside it; the same call goes on where a killed one was, and measures nothing twice.

    Raises:
        StoreError, DeviceError: see `profiler.measuring.networks.measure_networks`.
    """
    architectures = informative_networks(space, count, np.random.default_rng([seed, count]))
    items = [NetworkItem(f"{CALIBRATION}-{i:02d}", tuple(space.blocks(a)), a, CALIBRATION) for i, a in enumerate(architectures)]
    made = measure_items(agent, out / NETWORKS_FILE, items, "fit", report)
    measured = made.measurements
    networks = MeasuredNetworks(space.encode(architectures), np.array([m.latency_ms for m in measured]), np.array([m.halves_ms for m in measured]))
    fitted = {name: latency_predictors.create(name, space).fit(networks.population, networks.latencies_ms) for name in WITHOUT_TABLE}
    judged = {name: judge_left_out(predictor, networks) for name, predictor in fitted.items()}
    saved = fitted["physical"]
    saved.condition = Condition.from_dict(made.condition)
    saved.save(out)
    return _fitted(saved, judged, (), made.warnings)


def _fitted(saved: LatencyPredictor, judged: Mapping[str, LatencyQuality | None], left_out: tuple[str, ...],
            warnings: tuple[TrustCheck, ...] = ()) -> Fitted:  # fmt: skip
    validation = saved.cross_validation
    known = None if validation is None or validation.networks < FEWEST_NETWORKS else validation.mape_half_width_percent()
    qualities = {name: quality for name, quality in judged.items() if quality is not None}
    return Fitted(saved.name, qualities, known, networks_to_add(saved), left_out, warnings)
