"""`profiler sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import MOST_SAMPLED, AsJson, Images, JudgingWorkers, Resolutions, Seed, Weights, judging_workers, store_to_write, typed


def command(
    out: Annotated[Path, typer.Option("--out", callback=store_to_write, help="File of sampled accuracies to write, or to go on with.")],
    weights: Weights = None,
    images: Images = "fashion-mnist-subset",
    count: Annotated[int, typer.Option("--count", min=1, max=MOST_SAMPLED, help="Subnets to measure, all different.")] = 16_000,
    validation_images: Annotated[int, typer.Option(min=1, help="Held-out images each subnet is judged on.")] = 1000,
    calibration_images: Annotated[int, typer.Option(min=1, help="Training images that each subnet's norm statistics are measured on.")] = 2048,
    resolutions: Resolutions = None,
    workers: JudgingWorkers = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda: where subnets are judged.")] = "cpu",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracies of randomly sampled subnets of a trained supernet; killed, the same command goes on.

    \b
    Example: profiler sample --weights trained/supernet.safetensors --images fashion-mnist-subset --count 16000 --out accuracies.db
    """
    from profiler.cli.output import print_json, progress_bar, say
    from profiler.sampling import sample_into
    from profiler.shipped import weights_or_shipped
    from supernets.training.machine import Machine

    processes = judging_workers(workers, device)
    with typed():
        Machine(device)
    with progress_bar("sampling") as report:
        result = sample_into(
            out, weights_or_shipped(weights), images, count, seed, processes, calibration_images, validation_images, resolutions, report, device
        )
    if as_json:
        print_json(result.to_dict())
    else:
        say(result.sentence())
