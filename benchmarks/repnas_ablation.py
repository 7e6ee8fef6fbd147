"""Whether branches that a search chose are better than random ones of the same number, on Fashion-MNIST.

Each seed trains the tiny RepNAS network in three ways of equal length (random branches, then a search, then the fixed
network), and judges what is deployed, branches merged, on the test images:

    searched   the second phase learns gates; the branches they are highest for are fixed
    random     the second phase goes on as the first; as many branches, drawn at random, are fixed
    plain      no branches: the K x K convolution of each block alone, for all phases

All three are the same network once merged, so their latency is the same. A margin is told with its standard error over
the seeds; the exit status is 1 if searched branches do not beat random ones in the mean. With --out a stopped run goes on.

    python benchmarks/repnas_ablation.py [--images fashion-mnist] [--seeds 5] [--steps 1400] [--quick]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

SPACE = "repnas-tiny"
ARMS = ("searched", "random", "plain")
PARTS = (0.15, 0.35, 0.5)  # of the steps: random, search, fixed
KEPT = 0.34  # of all branches


@dataclass(frozen=True)
class Job:
    """One training: what to do with which seed, where."""

    arm: str
    seed: int
    steps: int
    images: str
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What one training came to: accuracy on the test images, branches kept by kind, CPU seconds."""

    arm: str
    seed: int
    top1: float
    branches: dict[str, int]
    seconds: float


def run(job: Job) -> Outcome:
    """Train and judge, in one thread."""
    from supernets.networks.checkpoint import KIND, read_tensors
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.loop import train
    from supernets.training.repnas import small
    from supernets.training.validation import accuracy

    started = time.process_time()
    images, space = open_images(job.images), search_space(SPACE)
    steps_per_epoch = len(images.train_images) // small().batch_size
    epochs = [part * job.steps / steps_per_epoch for part in PARTS]
    recipe = small((epochs[0], epochs[1], epochs[2]), start="random" if job.arm == "random" else "equal", learned=job.arm == "searched", kept=KEPT)
    if job.arm == "plain":
        recipe = replace(recipe, phases=tuple(replace(phase, children=("smallest",)) for phase in recipe.phases))
    summary = train(space, images, recipe, job.folder / f"{job.arm}-{job.seed}", job.seed, threads=1)
    tensors, _ = read_tensors(summary.weights, KIND)
    found = summary.history[-1].get("architecture")
    architecture = space.smallest() if found is None else space.architecture(found)
    top1 = accuracy(space, tensors, architecture, images.test_images, images.test_labels, images.calibration_images())
    kept: dict[str, int] = {}
    for choice in space.choices:
        if choice.kind.startswith("branch_"):
            kept[choice.kind] = kept.get(choice.kind, 0) + architecture[choice.name]
    return Outcome(job.arm, job.seed, top1, kept, time.process_time() - started)


def told(outcomes: Sequence[Outcome], seeds: int) -> float:
    """Print the table and the margins; return that of searched over random branches, in points."""
    top1 = {arm: np.array([o.top1 for o in sorted(outcomes, key=lambda o: o.seed) if o.arm == arm]) * 100 for arm in ARMS}
    print(f"{'seed':>6}" + "".join(f"{arm:>10}" for arm in ARMS))
    for seed in range(seeds):
        print(f"{seed:>6}" + "".join(f"{top1[arm][seed]:>10.2f}" for arm in ARMS))
    spread = {arm: float(top1[arm].std(ddof=1)) if seeds > 1 else math.nan for arm in ARMS}
    print(f"{'mean':>6}" + "".join(f"{top1[arm].mean():>10.2f}" for arm in ARMS) + "   top-1 on the test images, %")
    print(f"{'spread':>6}" + "".join(f"{spread[arm]:>10.2f}" for arm in ARMS) + "   standard deviation over seeds")
    for other in ("random", "plain"):
        margin = top1["searched"] - top1[other]
        error = margin.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
        wins = int((margin > 0).sum())
        print(f"searched against {other}: {margin.mean():+.2f} points, standard error {error:.2f}, ahead in {wins} of {seeds} seeds")
    for arm in ("searched", "random"):
        kinds = {kind: np.mean([o.branches[kind] for o in outcomes if o.arm == arm]) for kind in outcomes[0].branches}
        print(f"  {arm} keeps in the mean " + ", ".join(f"{kind.removeprefix('branch_')} {mean:.1f}" for kind, mean in kinds.items()))
    return float((top1["searched"] - top1["random"]).mean())


def main() -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="fashion-mnist-subset", help="as `profiler train --images` takes them (default: the images shipped)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1400, help="of each training, batches of 64")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--out", type=Path, help="a folder that keeps the trainings")
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed: whether all runs, not what comes out")
    options = parser.parse_args()
    seeds, steps, began = (1, 12, time.monotonic()) if options.quick else (options.seeds, options.steps, time.monotonic())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        jobs = [Job(arm, seed, steps, options.images, folder) for seed in range(seeds) for arm in ARMS]
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = []
            for future in as_completed([pool.submit(run, job) for job in jobs]):
                outcomes.append(future.result())
                last = outcomes[-1]
                print(f"  {last.arm}, seed {last.seed}: {last.top1:.2%}, {last.seconds:.0f} s of CPU", flush=True)
    print(f"{SPACE}, {options.images}, {steps} steps a training, {len(jobs)} trainings in {(time.monotonic() - began) / 60:.1f} min")
    margin = told(outcomes, seeds)
    if not options.quick and margin <= 0:
        raise SystemExit("searched branches do NOT beat random ones of the same number")


if __name__ == "__main__":
    main()
