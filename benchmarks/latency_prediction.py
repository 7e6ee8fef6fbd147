"""How well latencies of whole networks are predicted: every predictor, on networks that nothing was chosen or fitted by.

Collects a full table with 200 held-out networks of the space in its rounds, random and uniform over its resolutions, from a
seed fixed here; prints each predictor's errors on them, and the chosen one's against their limits. A killed run goes on.

    python benchmarks/latency_prediction.py --runtime onnxruntime --table runs/prediction-onnxruntime.lut

The tables in luts/data were made so; with `--judge` nothing is measured, so a table of another machine is judged as well:

    python benchmarks/latency_prediction.py --judge --table luts/data/ofa-mobilenetv3-w1.2-onnxruntime-epyc.lut

"10 networks" rows use ten of the calibration networks, far apart; the last of them not even the table's blocks.

With `--again FILE` the same networks are measured once more, in a session of their own: what a user sees who measures a
network days after the table. The device's speed wanders by some percent, so ten calibration networks are measured with
them: how much these take now, against what they took then, is the level of that session.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from profiler.measuring.collect import collect
from profiler.measuring.informative import network_features, spread_rows
from profiler.measuring.networks import measure_networks
from profiler.measuring.plan import NetworkItem, make_plan
from profiler.measuring.session import condition_of
from profiler.measuring.settings import ProtocolSettings, preset
from supernets.space import SearchSpace
from supernets.spaces import space as search_space

SPACE, SEED = "ofa-mobilenetv3-w1.2", 20261122
NETWORKS, FEW = 200, 10
REFERENCES = 10  # of the table's calibration networks
FULL = replace(preset("full"), held_out_networks=NETWORKS, time_cap_s=1500)  # the networks take most of what that is longer
SETTINGS = ProtocolSettings(rounds=10, most_rounds=10, network_visits=5, network_runs=6, network_warmup=2)
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


def collected(path: Path, runtime: str) -> None:
    """Collect what the table lacks."""
    space = search_space(SPACE).restrict({"resolution": tuple(range(128, 225, 4))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with connect("local", runtime=runtime) as agent, MeasurementStore(path) as store:
        summary = collect(space, agent, store, make_plan(space, FULL, SEED), _show)
    print(f"{summary.measured_visits} visits in {summary.seconds:.0f} s, {summary.skipped_visits} were there before; ended by {summary.stopped_by}")


def measured_again(table: LatencyTable, space: SearchSpace, out: Path) -> tuple[MeasuredNetworks, float]:
    """Return new measurements of the held-out networks under the table's condition, and their session's level; visits in `out` already are kept."""
    condition, held_out, known = table.condition, table.networks("held_out"), table.networks("calibration")
    references = known[:: max(1, len(known) // REFERENCES)][:REFERENCES]
    items = [NetworkItem(f"again-{n:03d}", network.blocks, network.architecture, "again") for n, network in enumerate(held_out)]
    items += [NetworkItem(f"reference-{n:02d}", network.blocks, network.architecture, "reference") for n, network in enumerate(references)]
    with connect(condition.device, runtime=condition.runtime, threads=condition.threads, cores=condition.cores) as agent:
        differences = condition_of(agent.info()).differences_in_words(condition)
        if differences:
            raise SystemExit(f"{table.source} was measured under another condition than this machine offers: {differences}")
        out.parent.mkdir(parents=True, exist_ok=True)
        with MeasurementStore(out) as store:
            found = measure_networks(agent, store, items, SETTINGS, progress=_show).measurements
    level = float(np.median([now.latency_ms / then.latency_ms for now, then in zip(found[len(held_out) :], references, strict=True)]))
    now = found[: len(held_out)]
    population = space.encode(network.architecture for network in held_out if network.architecture is not None)
    return MeasuredNetworks(population, _latencies_ms(now), np.array([m.halves_ms for m in now])), level


def _latencies_ms(networks: Sequence[NetworkMeasurement]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([network.latency_ms for network in networks])


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
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--again", type=Path)
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    if not options.judge:
        collected(options.table, options.runtime)
    table, alone = LatencyTable.open(options.table), LatencyTable.open(options.table, "alone")
    space = search_space(SPACE)
    fresh, calibration = measured_networks(space, table, "held_out"), measured_networks(space, table, "calibration")
    few = calibration[spread_rows(network_features(space, calibration.population), FEW)]
    print(f"{len(fresh)} networks of {SPACE}, {table.condition.runtime} {table.condition.runtime_version}; {len(calibration)} for calibration")
    fitted, fitted_few = fit_all(space, table, calibration), fit_all(space, table, few)
    chosen, chosen_few = choose(fitted), choose(fitted_few)
    qualities = {name: _row(f"{name}{' (chosen)' if name == chosen else ''}", predictor, fresh) for name, predictor in fitted.items()}
    for name, predictor in fit_all(space, alone, calibration, ("additive", "calibrated")).items():
        _row(f"{name}, blocks alone", predictor, fresh)
    quality_few = _row(f"{chosen_few} (chosen), {len(few)} networks", fitted_few[chosen_few], fresh)
    without_table = _row(f"physical, no table, {len(few)} networks", fitted_few["physical"], fresh)
    judged = {"": qualities[chosen]}
    if options.again is not None:
        again, level = measured_again(table, space, options.again)
        judged[" in another session"] = _row(f"{chosen} (chosen), in another session", fitted[chosen], again)
        print(f"level of the other session: {level:.3f} of the table's, by {REFERENCES} networks measured in both")
        differences = again.latencies_ms / fresh.latencies_ms - 1
        print(f"the sessions' figures of the same networks differ by {100 * np.median(np.abs(differences)):.2f} % (median)")
    print(f"noise ceiling (MAPE of a perfect predictor) {qualities[chosen].repeatability_percent or float('nan'):.2f} %\n")
    for where, quality in judged.items():
        for what, figure, limit, below in LIMITS:
            print(_verdict(f"{chosen}{where}: {what}", figure(quality), limit, below))
    print(_verdict(f"{chosen_few}, {len(few)} networks: MAPE %", quality_few.mape_percent, MOST_MAPE_FEW_PERCENT, True))
    if table.condition.runtime == "onnxruntime":
        print(_verdict(f"no table, {len(few)} networks: MAPE %", without_table.mape_percent, MOST_MAPE_WITHOUT_TABLE_PERCENT, True))


if __name__ == "__main__":
    main()
