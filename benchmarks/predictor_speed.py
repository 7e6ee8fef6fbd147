"""How many architectures of the ImageNet space (w1.2) each predictor scores a second on one core, against its target.

    python benchmarks/predictor_speed.py

Block latencies and accuracies are invented: only the speed means something. Each predictor is fitted, then timed on codes
it checks as it always does; the best of several passes counts, since other work on the machine can only slow a pass down.
Fitting the network needs torch, scoring with it does not.
"""

# ruff: noqa: E402 (the limit to one core must stand before numpy is imported, which reads it)

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import time

import numpy as np

from luts.condition import Condition
from luts.table import Entry, LatencyTable
from predictors import accuracy, latency
from predictors.base import AccuracyPredictor, LatencyPredictor
from supernets.counts import block_macs
from supernets.places import AdditiveCost, distinct_blocks
from supernets.space import SearchSpace
from supernets.spaces import space as search_space

SPACE = "ofa-mobilenetv3-w1.2"
TARGETS_PER_S = {"flops_line": 1e6, "additive": 1e6, "calibrated": 1e6, "physical": 1e6, "terms": 1e6, "mlp": 5e4}
COUNTS = dict.fromkeys(("flops_line", "additive", "calibrated", "physical", "terms", "ridge"), 200_000)
FEWEST = 20_000  # architectures of those not named above
SETTINGS = {"mlp": {"max_steps": 20}}


def invented_table(space: SearchSpace) -> LatencyTable:
    """Return a table that says 0.02 ms a block and 20 GMAC/s."""
    condition = Condition("invented", "none", "0", "none", 1, (), 1, "float32", "none")
    return LatencyTable(condition, "chain", [Entry(b, 0.02 + block_macs(b) / 20e6, "predicted", None, 0, 0) for b in distinct_blocks(space)])


def fitted_predictors(space: SearchSpace) -> dict[str, LatencyPredictor | AccuracyPredictor]:
    """Return name → predictor, fitted on a few invented figures."""
    table, population = invented_table(space), space.sample_population(200, np.random.default_rng(0))
    log_macs = np.log(AdditiveCost(space, block_macs)(population))
    fitted: dict[str, LatencyPredictor | AccuracyPredictor] = {}
    for name in latency.LATENCY_PREDICTORS:
        fitted[name] = latency.create(name, space, table).fit(population, np.exp(log_macs) / 1e7)
    for name in accuracy.ACCURACY_PREDICTORS:
        fitted[name] = accuracy.create(name, space.name, **SETTINGS.get(name, {})).fit(population, 0.5 + 0.01 * log_macs)
    return fitted


def best_rate(predictor: LatencyPredictor | AccuracyPredictor, space: SearchSpace, count: int, passes: int) -> float:
    """Return architectures a second in the fastest pass."""
    population = space.sample_population(count, np.random.default_rng(1))
    predictor.predict(population[:1000])
    fastest_s = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        predictor.predict(population)
        fastest_s = min(fastest_s, time.perf_counter() - start)
    return count / fastest_s


def main() -> None:
    """Fit, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=7)
    options = parser.parse_args()
    space = search_space(SPACE)
    print(f"{SPACE}, one core, best of {options.passes} passes")
    for name, predictor in fitted_predictors(space).items():
        rate, target = best_rate(predictor, space, COUNTS.get(name, FEWEST), options.passes), TARGETS_PER_S.get(name)
        versus = "no target" if target is None else f"{rate / target:.2f} times the target of {target:,.0f}"
        print(f"{name:17s} {rate:>11,.0f} architectures/s  {versus}")


if __name__ == "__main__":
    main()
