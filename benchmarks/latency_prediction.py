"""How well latencies of whole networks are predicted: every predictor, on networks that nothing was chosen or fitted by.

Draws random subnets of the table's space, uniform over its resolutions, from a seed fixed here; measures them on the table's
device under its condition; prints each predictor's errors, and the chosen ones against their limits. A killed run goes on.

    python benchmarks/latency_prediction.py --table cpu.lut --out runs/prediction-onnxruntime.lut

"10 networks" rows use ten of the table's calibration networks, far apart; the last of them not even the table's blocks.

The device's speed wanders by some percent over minutes. So all networks are visited in turn over the whole session, and
with them ten of the table's calibration networks: how much these take now, against what they took then, is the level of
this session. Rows are judged at the table's level; the chosen predictor's limits both there and as the session found it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from device_agents.devices import connect
from luts.store import MeasurementStore
from luts.table import LatencyTable, NetworkMeasurement
from predictors.base import LatencyPredictor
from predictors.latency.choosing import choose
from predictors.latency.judging import MeasuredNetworks, fit_all, judge, measured_networks
from predictors.quality import LatencyQuality
from profiler.measuring.informative import network_features, spread_rows
from profiler.measuring.networks import measure_networks
from profiler.measuring.plan import NetworkItem
from profiler.measuring.session import condition_of
from profiler.measuring.settings import ProtocolSettings
from supernets.space import Population, SearchSpace
from supernets.spaces import space as search_space

SEED = 20261122
NETWORKS, FEW = 200, 10
REFERENCES = 10  # of the table's calibration networks
SETTINGS = ProtocolSettings(rounds=5, most_rounds=5, network_visits=5, network_runs=6, network_warmup=2)
# Of the chosen predictor: name of the limit, figure, limit, and whether the figure must stay below it.
LIMITS: tuple[tuple[str, Callable[[LatencyQuality], float], float, bool], ...] = (
    ("MAPE %", lambda q: q.mape_percent, 1.5, True),
    ("share beyond 5 %", lambda q: 1 - q.within_5_share, 0.03, True),
    ("share beyond 10 %", lambda q: 1 - q.within_10_share, 0.0, True),
    ("Spearman", lambda q: q.spearman or 0.0, 0.997, False),
    ("coverage of 90 % intervals, least", lambda q: q.coverage_share or 0.0, 0.85, False),
    ("coverage of 90 % intervals, most", lambda q: q.coverage_share or 0.0, 0.95, True),
)
MOST_MAPE_FEW_PERCENT, MOST_MAPE_WITHOUT_TABLE_PERCENT = 2.0, 4.0  # the second one on onnxruntime


def drawn(space: SearchSpace, count: int) -> Population:
    """Return random subnets: the resolution uniform, and so is each other choice that this leaves on."""
    return space.sample_different(count, np.random.default_rng(SEED))


def measured(table: LatencyTable, space: SearchSpace, count: int, out: Path) -> tuple[MeasuredNetworks, float]:
    """Return measurements of the drawn subnets under the table's condition, and the session's level; visits in `out` already are kept."""
    population, condition = drawn(space, count), table.condition
    items = [NetworkItem(f"benchmark-{i:03d}", tuple(space.blocks(a)), a, "benchmark") for i, a in enumerate(space.decode(population))]
    known = table.networks("calibration")
    references = known[:: max(1, len(known) // REFERENCES)][:REFERENCES]
    items += [NetworkItem(f"reference-{i:02d}", network.blocks, network.architecture, "reference") for i, network in enumerate(references)]
    with connect(condition.device, runtime=condition.runtime, threads=condition.threads, cores=condition.cores) as agent:
        differences = condition_of(agent.info()).differences_in_words(condition)
        if differences:
            raise SystemExit(f"{table.source} was measured under another condition than this machine offers: {differences}")
        out.parent.mkdir(parents=True, exist_ok=True)
        with MeasurementStore(out) as store:
            found = measure_networks(agent, store, items, SETTINGS, progress=_show).measurements
    level = float(np.median([now.latency_ms / then.latency_ms for now, then in zip(found[count:], references, strict=True)]))
    return MeasuredNetworks(population, _latencies_ms(found[:count]), np.array([m.halves_ms for m in found[:count]])), level


def _latencies_ms(networks: Sequence[NetworkMeasurement]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([network.latency_ms for network in networks])


def at_level(networks: MeasuredNetworks, level: float) -> MeasuredNetworks:
    """Return what the networks would have taken where this session's level is one."""
    return MeasuredNetworks(networks.population, networks.latencies_ms / level, networks.halves_ms / level)


def _show(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"\r{done}/{total} visits", end="\n" if done == total else "", flush=True)


def _row(name: str, predictor: LatencyPredictor, fresh: MeasuredNetworks) -> LatencyQuality:
    quality = judge(predictor, fresh)
    if quality is None:
        raise SystemExit("no networks were measured; ask for at least one")
    covered = "   -  " if quality.coverage_share is None else f"{quality.coverage_share:6.1%}"
    print(
        f"{name:38s} MAPE {quality.mape_percent:5.2f} %  bias {quality.bias_percent:+6.2f} %  within 5 % {quality.within_5_share:6.1%}  "
        f"within 10 % {quality.within_10_share:6.1%}  Spearman {quality.spearman or 0:.4f}  worst {quality.worst_percent:+6.2f} %  "
        f"in 90 % interval {covered}  its width {quality.interval_width_percent or 0:5.2f} %"
    )
    return quality


def _verdict(name: str, figure: float, limit: float, below: bool) -> str:
    kept = figure <= limit if below else figure >= limit
    ratio = f"{figure / limit:.3f} of" if limit else "against"
    return f"{name:66s} {figure:7.4g}  {ratio} the limit {limit:g} ({'most' if below else 'least'})  {'kept' if kept else 'MISSED'}"


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=NETWORKS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    table, alone = LatencyTable.open(options.table), LatencyTable.open(options.table, "alone")
    space = search_space(table.space or "")
    as_found, level = measured(table, space, options.networks, options.out)
    fresh, calibration = at_level(as_found, level), measured_networks(space, table, "calibration")
    few = calibration[spread_rows(network_features(space, calibration.population), FEW)]
    print(f"{len(fresh)} networks of {table.space}, {table.condition.runtime} {table.condition.runtime_version}; {len(calibration)} for calibration")
    fitted, fitted_few = fit_all(space, table, calibration), fit_all(space, table, few)
    chosen, chosen_few = choose(fitted), choose(fitted_few)
    qualities = {name: _row(f"{name}{' (chosen)' if name == chosen else ''}", predictor, fresh) for name, predictor in fitted.items()}
    for name, predictor in fit_all(space, alone, calibration, ("additive", "calibrated")).items():
        _row(f"{name}, blocks alone", predictor, fresh)
    quality_few = _row(f"{chosen_few} (chosen), {len(few)} networks", fitted_few[chosen_few], fresh)
    without_table = _row(f"physical, no table, {len(few)} networks", fitted_few["physical"], fresh)
    quality = qualities[chosen]
    quality_as_found = _row(f"{chosen} (chosen), session as found", fitted[chosen], as_found)
    print(f"level of this session: {level:.3f} of the table's, by {REFERENCES} networks measured in both")
    print(f"noise ceiling (MAPE of a perfect predictor) {quality.repeatability_percent or float('nan'):.2f} %\n")
    for where, judged in (("at the table's level", quality), ("as found", quality_as_found)):
        for what, figure, limit, below in LIMITS:
            print(_verdict(f"{chosen} {where}: {what}", figure(judged), limit, below))
    print(_verdict(f"{chosen_few}, {len(few)} networks: MAPE %", quality_few.mape_percent, MOST_MAPE_FEW_PERCENT, True))
    if table.condition.runtime == "onnxruntime":
        print(_verdict(f"no table, {len(few)} networks: MAPE %", without_table.mape_percent, MOST_MAPE_WITHOUT_TABLE_PERCENT, True))


if __name__ == "__main__":
    main()
