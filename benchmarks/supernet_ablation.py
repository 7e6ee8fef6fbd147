"""What the ablations of supernet training share: recipes as arms, judged by the same subnets.

Judged on all test images: the largest and the smallest subnet, and random ones, the same in all trainings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ablation import Job, Outcome, more_than_zero, parser, refuse_loss, told, trained

from profiler.cli.matching import refuse_recipe_of_another_space
from supernets.spaces import space as search_space
from supernets.training.phases import Recipe

RANDOM_SUBNETS = 12
QUICK_EPOCHS = 0.1
TITLES = {"random": "random subnets, their mean", "largest": "largest subnet", "smallest": "smallest subnet"}


def run(job: Job) -> Outcome:
    """Train and judge, in one thread."""
    import torch

    from supernets.networks.checkpoint import load_supernet
    from supernets.training.data import open_images
    from supernets.training.loop import train
    from supernets.training.validation import accuracy

    torch.set_num_threads(1)
    started = time.process_time()
    images, space, recipe = open_images(job.images), search_space(job.settings["space"]), Recipe.from_dict(job.settings["recipe"])
    summary = train(space, images, recipe, job.folder / f"{job.arm.replace(' ', '-')}-{job.seed}", job.seed, threads=1)
    tensors = load_supernet(summary.weights).tensors()

    def top1(architecture: Any) -> float:
        return accuracy(space, tensors, architecture, images.test_images, images.test_labels, images.calibration_images())

    random = space.decode(space.sample_different(job.settings["random_subnets"], np.random.default_rng(0)))
    judged = {"random": float(np.mean([top1(each) for each in random])), "largest": top1(space.largest()), "smallest": top1(space.smallest())}
    return Outcome(job.arm, job.seed, judged, time.process_time() - started)


def supernet_parser(description: str, space: str, epochs: float) -> argparse.ArgumentParser:
    """Return a parser of the options that these ablations have."""
    made = parser(description, seeds=3)
    made.add_argument("--space", default=space, help="as `profiler train --space` takes it")
    made.add_argument("--epochs", type=more_than_zero, default=epochs, help="of each training")
    return made


def epochs_of(options: argparse.Namespace) -> float:
    """Return how long each training is."""
    return QUICK_EPOCHS if options.quick else options.epochs


def compare(options: argparse.Namespace, recipes: Mapping[str, Recipe]) -> None:
    """Train, judge and print; exits with 1 where the first arm does not beat the second on random subnets, or where space and recipes do not fit."""
    try:
        space = search_space(options.space)
        for recipe in recipes.values():
            refuse_recipe_of_another_space(recipe, space)
    except (ValueError, LookupError) as error:
        raise SystemExit(str(error)) from error
    common = {"space": options.space, "random_subnets": 1 if options.quick else RANDOM_SUBNETS}
    arms = {arm: {**common, "recipe": recipe.to_dict()} for arm, recipe in recipes.items()}
    outcomes = trained(options, run, arms, f"{options.space}, {epochs_of(options):g} epochs a training")
    refuse_loss(told(outcomes, list(arms), TITLES), *list(arms)[:2], options)
