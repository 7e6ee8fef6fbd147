"""How long an evolution search of the reference's size takes (population 100, 500 generations), against a limit of 20 s.

Without files the figures come from stand-ins that cost what real ones cost: an untrained network of the accuracy
predictor's size (3 layers of 400) and a table sum over invented block latencies. Only their time means something. With
files of this project, the same search runs on a saved accuracy predictor and a latency table:

    python benchmarks/search_speed.py --accuracy runs/demo/accuracy --table cpu.lut --max-latency-ms 25
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np

from search.driver import SearchResult, search
from search.lowest import lowest_latency
from search.scoring import Estimate
from search.settings import SearchSettings
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Population, SearchSpace
from supernets.spaces import space as search_space

LIMIT_S = 20.0
LAYERS, WIDTH = 3, 400  # the accuracy predictor of Once-for-All
BUDGETS = {"loose": 0.5, "tight": 0.01}  # share of random networks within the budget


def stand_in_accuracy(space: SearchSpace, seed: int = 0) -> Estimate:
    """Return an untrained network of the accuracy predictor's size: right in cost, meaningless in value."""
    rng = np.random.default_rng(seed)
    widths = [space.one_hot(space.encode([space.largest()])).shape[1], *[WIDTH] * LAYERS, 1]
    weights = [rng.normal(0, (2 / n) ** 0.5, (n, m)).astype(np.float32) for n, m in itertools.pairwise(widths)]

    def accuracy(population: Population) -> np.ndarray:
        x = space.one_hot(population)
        for weight in weights[:-1]:
            x = np.maximum(x @ weight, 0)
        return (0.75 + 0.02 * np.tanh(x @ weights[-1])[:, 0]).astype(np.float64)

    return accuracy


def stand_in_latency(space: SearchSpace) -> Estimate:
    """Return a table sum over invented block latencies: 0.02 ms a block and 20 GMAC/s."""

    def latency_ms(block: BlockSpec) -> float:
        return 0.02 + block_macs(block) / 20e6

    return AdditiveCost(space, latency_ms)


def saved_accuracy(space: SearchSpace, folder: str) -> Estimate:
    """Return the prediction function of a saved accuracy predictor."""
    import predictors.accuracy

    predict: Callable[[Population], np.ndarray] = predictors.accuracy.load(folder, space).predict
    return predict


def measured_latency(space: SearchSpace, table: str) -> Estimate:
    """Return the sum of a latency table's entries."""
    from luts.table import LatencyTable

    entries = LatencyTable.open(table)
    return AdditiveCost(space, lambda block: entries.entry(block).latency_ms)


def report(
    label: str, space: SearchSpace, accuracy: Estimate, latency: Estimate, max_latency_ms: float, strategy: str, settings: SearchSettings
) -> float:
    """Run one search, print its time and what it looked up, and return the seconds it took."""
    start = time.perf_counter()
    result: SearchResult = search(space, accuracy, latency, max_latency_ms, strategy, settings)
    seconds = time.perf_counter() - start
    print(
        f"{label:<34} {seconds:6.2f} s = {seconds / LIMIT_S:5.2f} x the limit of {LIMIT_S:.0f} s   "
        f"{result.evaluations:>7,} accuracies   {result.latency_evaluations:>9,} latencies   "
        f"chosen {result.best.latency_ms:.3f} of {max_latency_ms:.3f} ms"
    )
    return seconds


def main() -> None:
    """Run the searches the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="ofa-mobilenetv3-w1.2")
    parser.add_argument("--accuracy", metavar="FOLDER", help="a saved accuracy predictor of this space instead of the stand-in")
    parser.add_argument("--table", metavar="FILE", help="a latency table that covers this space instead of the stand-in")
    parser.add_argument("--max-latency-ms", type=float, help="the budget; without it a loose and a tight one are tried")
    parser.add_argument("--generations", type=int, default=500)
    options = parser.parse_args()
    space = search_space(options.space)
    accuracy = saved_accuracy(space, options.accuracy) if options.accuracy else stand_in_accuracy(space)
    latency = measured_latency(space, options.table) if options.table else stand_in_latency(space)
    print(f"space {space.name}, {space.size():.2e} networks")
    print(f"accuracy: {options.accuracy or f'STAND-IN, an untrained network of {LAYERS} x {WIDTH}: its values mean nothing'}")
    print(f"latency:  {options.table or 'STAND-IN, invented block latencies'}")

    start = time.perf_counter()
    lowest_ms = float(latency(lowest_latency(space, latency, np.random.default_rng(0)))[0])
    print(f"lowest reachable latency {lowest_ms:.3f} ms, found in {time.perf_counter() - start:.2f} s")
    random_ms = latency(space.sample_population(5000, np.random.default_rng(0)))
    budgets = {"given": options.max_latency_ms} if options.max_latency_ms else {n: float(np.quantile(random_ms, q)) for n, q in BUDGETS.items()}
    settings = SearchSettings(generations=options.generations)
    slowest = max(report(f"evolution, {name} budget", space, accuracy, latency, budget, "evolution", settings) for name, budget in budgets.items())
    print(f"slowest: {slowest:.2f} s, {'within' if slowest < LIMIT_S else 'OVER'} the limit of {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main()
