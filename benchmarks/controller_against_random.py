"""Whether MnasNet's RL controller finds better networks than random search does, and the other strategies beside them.

Every strategy scores as many different networks of the same small spaces by the same reward, the soft weighted product of MnasNet,
with the settings it has by default but for the controller's learning rate: 0.00035 is for the paper's eight thousand
networks, so it is given for both. What is told is how far the best network found is below the best of all networks of
the space, as `exhaustive` search knows it, in percent of that reward: mean and standard deviation over seeds.

Accuracies are NOT measured ones: a formula of the networks' blocks stands for them, which saturates with capacity, differs from block to block and
has interactions that no sum over blocks has. Latencies are a sum of what blocks cost on the simulated device. With --proxies FILE,
accuracies sampled into a store (`profiler sample`, or proxy trainings of `profiler.proxy_training`) are fitted by the ridge predictor and
that stands for them. The exit status is 1 where the controller does not beat random search in the mean.

    python benchmarks/controller_against_random.py [--seeds 5] [--networks 200] [--proxies FILE]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.driver import search
from search.rewards import objective_of
from search.scoring import Estimate
from search.settings import SearchSettings
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Population, SearchSpace, Value
from supernets.spaces import space as search_space

OBJECTIVE = "soft-product"
TINY_RATE, PAPER_RATE = 0.01, SearchSettings().controller_learning_rate
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # strategy, and what differs from its default settings
    "random": ("random", {}),
    f"rl-controller, rate {TINY_RATE:g}": ("rl-controller", {"controller_learning_rate": TINY_RATE}),
    f"rl-controller, rate {PAPER_RATE:g}": ("rl-controller", {"controller_learning_rate": PAPER_RATE}),
    "evolution": ("evolution", {}),
    "coarse-to-fine": ("coarse-to-fine", {}),
}
JUDGED = f"rl-controller, rate {TINY_RATE:g}"  # the row that must beat `random`
GENERATION = 20  # networks: a mini-batch of the controller
SPACES: dict[str, Mapping[str, tuple[Value, ...]]] = {  # spaces that can be enumerated: some choices of the tiny ones fixed
    "mnasnet-tiny": {"stage1.depth": (1,), "stage1.se_ratio": (0,), "stage1.convolution": ("sepconv", "mbconv3"), "stage2.skip": ("none", "identity"),
                     "stage3.skip": ("none", "identity"), "lone_skip": ("none",)},
    "ofa-mobilenetv3-tiny": {"resolution": (20, 24, 28), "stage1.depth": (2,), "stage2.depth": (2, 3), "stage3.depth": (2,),
                             "kernel_size": (3, 7), "expand_ratio": (3, 6)},
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A space, its estimates, the target of the reward, and the best reward of all its networks."""

    space: SearchSpace
    accuracy: Estimate
    latency: Estimate
    target_ms: float
    best: float
    source: str


def scatter(text: str) -> float:
    """Return a fixed number between 0 and 1 that has nothing to do with size."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 9973 / 9973


def formula(space: SearchSpace) -> Estimate:
    """Return accuracies between 0.5 and 0.9 by formula."""
    capacity = AdditiveCost(space, lambda block: math.sqrt(block_macs(block) / 1e6) * (0.5 + scatter(block.key[::-1])))
    middle = float(np.median(capacity(space.sample_population(2000, np.random.default_rng(0)))))
    mixed = np.random.default_rng(1).normal(size=(len(space.choices), 3))

    def accuracy(population: Population) -> np.ndarray:
        interaction = np.prod(np.sin(population.astype(np.float64) @ mixed), axis=1)
        return np.asarray(0.5 + 0.4 * np.tanh(capacity(population) / (1.5 * middle)) + 0.01 * interaction)

    return accuracy


def sampled(space: SearchSpace, store: Path) -> Estimate:
    """Return what a ridge predictor makes of accuracies in a store."""
    from luts.store import MeasurementStore
    from predictors import accuracy

    with MeasurementStore(store, read_only=True) as opened:
        rows = [row for row in opened.accuracies() if row.protocol.space == space.name]
    if not rows:
        raise SystemExit(f"{store} holds no accuracies of space {space.name}; name the space it is of with --spaces")
    predictor = accuracy.create("ridge", space.name)
    predictor.fit(space.encode([row.architecture for row in rows]), np.array([row.top1 for row in rows]))
    predict: Callable[[Population], np.ndarray] = predictor.predict
    return predict


def simulated_ms(block: BlockSpec) -> float:
    """Return what a block costs on the simulated device, undisturbed."""
    from device_agents.simulated_cost import cost
    from profiler.measuring.models import default_model_maker

    return cost(default_model_maker("onnx", 1, "float32")([block])).cached_ns / 1e6


def problem_of(name: str, store: Path | None) -> Problem:
    """Return the problem of a space, every network of it looked up."""
    space = search_space(name).restrict(SPACES[name])
    accuracy = formula(space) if store is None else sampled(space, store)
    latency = AdditiveCost(space, simulated_ms)
    everything = space.encode(space.enumerate())
    latencies_ms = latency(everything)
    target_ms = float(np.quantile(latencies_ms, 0.25))
    rewards = objective_of(OBJECTIVE, target_ms).values(accuracy(everything), latencies_ms)
    source = "a formula" if store is None else f"a ridge predictor of {store}"
    return Problem(space, accuracy, latency, target_ms, float(rewards.max()), source)


def gap_percent(problem: Problem, row: str, networks: int, seed: int) -> tuple[float, int]:
    """Return how far the best network of one search is below the best of all, and how many networks it scored."""
    strategy, changed = ROWS[row]
    settings = SearchSettings(population_size=GENERATION, generations=networks // GENERATION, **changed)
    found = search(problem.space, problem.accuracy, problem.latency, problem.target_ms, strategy, settings, seed, objective=OBJECTIVE)
    accuracy, latency_ms = np.array([found.best.accuracy]), np.array([found.best.latency_ms])
    reward = float(objective_of(OBJECTIVE, problem.target_ms).values(accuracy, latency_ms)[0])
    return 100 * (1 - reward / problem.best), found.evaluations


def told(problem: Problem, networks: int, seeds: int) -> tuple[float, float]:
    """Print the table of a space; return the mean margin of the controller over random search, and its standard error."""
    print(f"{problem.space.name}, restricted to {problem.space.size():,} networks; accuracies by {problem.source}, target {problem.target_ms:.4f} ms")
    print(f"{'':<28}{'gap %':>9}{'spread':>9}{'worst':>9}{'found':>8}{'networks':>10}{'seconds':>9}")
    gaps: dict[str, np.ndarray] = {}
    for row in ROWS:
        began = time.process_time()
        outcomes = [gap_percent(problem, row, networks, seed) for seed in range(seeds)]
        seconds = (time.process_time() - began) / seeds
        gaps[row] = np.array([gap for gap, _ in outcomes])
        scored = np.mean([count for _, count in outcomes])
        optimal = int((gaps[row] < 1e-9).sum())
        print(f"{row:<28}{gaps[row].mean():>9.3f}{gaps[row].std(ddof=1):>9.3f}{gaps[row].max():>9.3f}{optimal:>5}/{seeds:<2}{scored:>10.0f}"
              f"{seconds:>9.2f}", flush=True)  # fmt: skip
    margin = gaps["random"] - gaps[JUDGED]
    error = float(margin.std(ddof=1)) / math.sqrt(seeds)
    verdict = "beats" if margin.mean() > 0 else "does NOT beat"
    print(f"the controller {verdict} random search: {margin.mean():+.3f} points of reward, standard error {error:.3f}, ahead in "
          f"{int((margin > 0).sum())} of {seeds} seeds\n", flush=True)  # fmt: skip
    return float(margin.mean()), error


def main() -> None:
    """Search and print."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default=",".join(SPACES), help=f"some of {', '.join(SPACES)}")
    parser.add_argument("--seeds", type=int, default=5, help="2 or more")
    parser.add_argument("--networks", type=int, default=200, help="scored by each search")
    parser.add_argument("--proxies", type=Path, help="a file of sampled accuracies to take in place of the formula")
    options = parser.parse_args()
    margins = [told(problem_of(name, options.proxies), options.networks, options.seeds)[0] for name in options.spaces.split(",")]
    if min(margins) <= 0:
        raise SystemExit("the controller does NOT beat random search in every space")


if __name__ == "__main__":
    main()
