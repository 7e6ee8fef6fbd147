"""What the ablations of supernet training share: train each arm with each seed, judge the same subnets, tell means and spreads.

Every training of a seed sees the same images in the same order for as many epochs. Judged on all test images: the largest and the
smallest subnet, and random ones, the same in all trainings. A margin is told with its standard error over the seeds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RANDOM_SUBNETS = 12
JUDGED = ("random", "largest", "smallest")


@dataclass(frozen=True)
class Job:
    """One training: which recipe with which seed, on what, where."""

    arm: str
    seed: int
    space: str
    recipe: dict[str, Any]
    images: str
    folder: Path
    random_subnets: int = RANDOM_SUBNETS


@dataclass(frozen=True)
class Outcome:
    """What one training came to: accuracies by what was judged (of random subnets the mean), CPU seconds."""

    arm: str
    seed: int
    top1: dict[str, float]
    seconds: float


def run(job: Job) -> Outcome:
    """Train and judge, in one thread."""
    import torch

    from supernets.networks.checkpoint import load_supernet
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.loop import train
    from supernets.training.phases import Recipe
    from supernets.training.validation import accuracy

    torch.set_num_threads(1)
    started = time.process_time()
    images, space = open_images(job.images), search_space(job.space)
    summary = train(space, images, Recipe.from_dict(job.recipe), job.folder / f"{job.arm.replace(' ', '-')}-{job.seed}", job.seed, threads=1)
    tensors = load_supernet(summary.weights).tensors()

    def top1(architecture: Any) -> float:
        return accuracy(space, tensors, architecture, images.test_images, images.test_labels, images.calibration_images())

    random = space.decode(space.sample_different(job.random_subnets, np.random.default_rng(0)))
    judged = {"random": float(np.mean([top1(each) for each in random])), "largest": top1(space.largest()), "smallest": top1(space.smallest())}
    return Outcome(job.arm, job.seed, judged, time.process_time() - started)


def told(outcomes: Sequence[Outcome], arms: Sequence[str], seeds: int) -> float:
    """Print the tables and the margins of the first arm over the others; return that over the second on random subnets, in points."""
    margins: dict[tuple[str, str], float] = {}
    for judged in JUDGED:
        top1 = {arm: np.array([o.top1[judged] for o in sorted(outcomes, key=lambda o: o.seed) if o.arm == arm]) * 100 for arm in arms}
        print(f"{judged} subnet{'s, their mean' if judged == 'random' else ''}: top-1 on the test images, %")
        print(f"{'seed':>8}" + "".join(f"{arm:>24}" for arm in arms))
        for seed in range(seeds):
            print(f"{seed:>8}" + "".join(f"{top1[arm][seed]:>24.2f}" for arm in arms))
        spread = {arm: float(top1[arm].std(ddof=1)) if seeds > 1 else math.nan for arm in arms}
        print(f"{'mean':>8}" + "".join(f"{top1[arm].mean():>24.2f}" for arm in arms))
        print(f"{'spread':>8}" + "".join(f"{spread[arm]:>24.2f}" for arm in arms) + "   standard deviation over seeds")
        for other in arms[1:]:
            margin = top1[arms[0]] - top1[other]
            error = margin.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
            ahead = int((margin > 0).sum())
            print(f"  {arms[0]} against {other}: {margin.mean():+.2f} points, standard error {error:.2f}, ahead in {ahead} of {seeds} seeds")
            margins[judged, other] = float(margin.mean())
    return margins["random", arms[1]]


def compare(description: str, space: str, epochs: float, arms_of: Callable[[float], Mapping[str, Any]]) -> None:
    """Parse the command line, train, judge and print; exits with 1 where the first arm does not beat the second on random subnets.

    `arms_of` gives the recipes of both arms for so many epochs.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=space, help="as `profiler train --space` takes it")
    parser.add_argument("--images", default="fashion-mnist-subset", help="as `profiler train --images` takes them (default: the images shipped)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=epochs, help="of each training")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--out", type=Path, help="a folder that keeps the trainings; a stopped run goes on")
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed: whether all runs, not what comes out")
    options = parser.parse_args()
    seeds, length, began = (1, 0.1, time.monotonic()) if options.quick else (options.seeds, options.epochs, time.monotonic())
    arms = {arm: recipe.to_dict() for arm, recipe in arms_of(length).items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        judged = 1 if options.quick else RANDOM_SUBNETS
        jobs = [Job(arm, seed, options.space, recipe, options.images, folder, judged) for seed in range(seeds) for arm, recipe in arms.items()]
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = []
            for future in as_completed([pool.submit(run, job) for job in jobs]):
                outcomes.append(future.result())
                last = outcomes[-1]
                print(f"  {last.arm}, seed {last.seed}: {last.top1['random']:.2%}, {last.seconds:.0f} s of CPU", flush=True)
    print(f"{options.space}, {options.images}, {length:g} epochs a training, {len(jobs)} trainings in {(time.monotonic() - began) / 60:.1f} min")
    margin = told(outcomes, list(arms), seeds)
    if not options.quick and margin <= 0:
        raise SystemExit(f"{next(iter(arms))} does NOT beat {list(arms)[1]} on random subnets")
