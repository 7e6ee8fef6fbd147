"""How well a latency table predicts whole networks that it was not calibrated on.

Draws random subnets of the table's space at mixed resolutions, measures them on the table's device and condition, and
prints each predictor's error beside the FLOPs-only line and the limits (MAPE 3 %, 90 % within 5 %).

    python benchmarks/latency_prediction.py --table cpu.lut --networks 60 --out runs/prediction-onnxruntime.lut
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from device_agents.devices import connect
from luts.store import MeasurementStore
from luts.table import LatencyTable, NetworkMeasurement
from predictors.latency.judging import fit_and_judge
from predictors.quality import judge_latencies
from profiler.measuring.networks import measure_networks
from profiler.measuring.plan import NetworkItem
from profiler.measuring.session import condition_of
from profiler.measuring.settings import ProtocolSettings
from supernets.spaces import space as search_space

MOST_MAPE_PERCENT, LEAST_WITHIN_5 = 3.0, 0.90
SETTINGS = ProtocolSettings(rounds=5, network_visits=5, network_runs=6, network_warmup=2)


def measured_networks(table: LatencyTable, count: int, seed: int, out: Path) -> list[NetworkMeasurement]:
    """Return measurements of `count` random networks under the table's condition; those in `out` already are kept."""
    space = search_space(table.space or "")
    rng = np.random.default_rng([seed, 60])
    calibrated = {network.architecture for network in table.networks()}
    drawn = [a for a in space.decode(space.sample_different(count + len(calibrated), rng)) if a not in calibrated][:count]
    items = [NetworkItem(f"benchmark-{i:03d}", tuple(space.blocks(a)), a, "benchmark") for i, a in enumerate(drawn)]
    condition = table.condition
    with connect(condition.device, runtime=condition.runtime, threads=condition.threads, cores=condition.cores) as agent:
        differences = condition_of(agent.info()).differences(condition)
        if differences:
            raise SystemExit(f"{table.source} was measured under another condition than this machine offers: {differences}")
        out.parent.mkdir(parents=True, exist_ok=True)
        with MeasurementStore(out) as store:
            return list(measure_networks(agent, store, items, SETTINGS, progress=_show).measurements)


def _show(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"\r{done}/{total} visits", end="\n" if done == total else "", flush=True)


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    table = LatencyTable.open(options.table)
    space = search_space(table.space or "")
    networks = measured_networks(table, options.networks, options.seed, options.out)
    print(f"{len(networks)} networks of {table.space}, {table.condition.runtime} {table.condition.runtime_version}")
    population = space.encode(network.architecture for network in networks if network.architecture is not None)
    measured_ms = np.array([network.latency_ms for network in networks])
    halves_ms = np.array([network.halves_ms for network in networks])
    alone = fit_and_judge(space, LatencyTable.open(options.table, "alone"), ("additive", "calibrated"))
    ladder = {**fit_and_judge(space, table), **{f"{name}, blocks alone": predictor for name, predictor in alone.items()}}
    for name, predictor in ladder.items():
        quality = judge_latencies(predictor.predict(population), measured_ms, len(table.networks("calibration")), halves_ms)
        print(
            f"{name:24s} MAPE {quality.mape_percent:5.2f} %  bias {quality.bias_percent:+6.2f} %  within 5 % {quality.within_5_share:6.1%}"
            f"  within 10 % {quality.within_10_share:6.1%}  Spearman {quality.spearman:.4f}  worst {quality.worst_percent:5.2f} %"
            f"  MAPE / limit {quality.mape_percent / MOST_MAPE_PERCENT:.2f}"
        )
    print(f"noise ceiling (MAPE of a perfect predictor) {quality.repeatability_percent:.2f} %; {quality.calibration_count} calibration networks; "
          f"limits: MAPE {MOST_MAPE_PERCENT:g} %, within 5 % {LEAST_WITHIN_5:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
