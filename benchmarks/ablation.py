"""What the ablations of trainings share: train each arm with each seed, in processes of one thread, and tell means, spreads and margins.

Every training of a seed sees the same images in the same order. A margin is told with its standard error over the seeds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supernets.training.data import open_images


@dataclass(frozen=True)
class Job:
    """One training: which arm with which seed, of which settings, where."""

    arm: str
    seed: int
    settings: Mapping[str, Any]
    images: str
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What one training came to: accuracies on the test images by what was judged, CPU seconds, and counts that belong to it."""

    arm: str
    seed: int
    top1: dict[str, float]
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)


def parser(description: str, seeds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that every ablation has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--images", default="fashion-mnist-subset", help="as `profiler train --images` takes them (default: %(default)s)")
    made.add_argument("--seeds", type=at_least_one, default=seeds)
    made.add_argument("--workers", type=at_least_one, default=2, help="processes of one thread")
    made.add_argument("--out", type=Path, help="a folder that keeps the trainings; a stopped run goes on")
    made.add_argument("--quick", action="store_true", help="a few steps of one seed: whether all runs, not what comes out")
    return made


def at_least_one(text: str) -> int:
    """Return the whole number an option gives."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def more_than_zero(text: str) -> float:
    """Return the number an option gives."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def trained(
    options: argparse.Namespace, run: Callable[[Job], Outcome], arms: Mapping[str, Mapping[str, Any]], what: str
) -> list[Outcome]:  # fmt: skip
    """Run each arm with each seed and return what came of them; a line is printed of each, and one of all, which begins with `what`.

    Images that cannot be read end the script with exit status 1 and one sentence.
    """
    try:
        open_images(options.images)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    began, seeds = time.monotonic(), 1 if options.quick else options.seeds
    kept = tempfile.TemporaryDirectory() if options.out is None else nullcontext(options.out)
    with kept as folder, ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [Job(arm, seed, settings, options.images, Path(folder)) for seed in range(seeds) for arm, settings in arms.items()]
        outcomes = []
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            outcomes.append(future.result())
            last = outcomes[-1]
            print(f"  {last.arm}, seed {last.seed}: {next(iter(last.top1.values())):.2%}, {last.seconds:.0f} s of CPU", flush=True)
    print(f"{what}, {options.images}, {len(outcomes)} trainings in {(time.monotonic() - began) / 60:.1f} min")
    return sorted(outcomes, key=lambda outcome: outcome.seed)


def told(outcomes: Sequence[Outcome], arms: Sequence[str], titles: Mapping[str, str]) -> float:
    """Print a table of each thing judged (name → title) and the first arm's margins; return that of the first thing over the second arm."""
    margins: list[float] = []
    for judged, title in titles.items():
        top1 = {arm: np.array([outcome.top1[judged] for outcome in outcomes if outcome.arm == arm]) * 100 for arm in arms}
        seeds = len(top1[arms[0]])
        print(f"{title}: top-1 on the test images, %")
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
            margins.append(float(margin.mean()))
    return margins[0]


def refuse_loss(margin: float, first: str, second: str, options: argparse.Namespace) -> None:
    """End with exit status 1 where the first arm is not ahead; a quick run says nothing of that."""
    if not options.quick and margin <= 0:
        raise SystemExit(f"{first} does NOT beat {second}")
