"""`profiler sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import MOST_SAMPLED, AsJson, Images, Resolutions, Seed, Weights, store_to_write


def command(
    out: Annotated[Path, typer.Option("--out", callback=store_to_write, help="File of sampled accuracies to write, or to go on with.")],
    weights: Weights = None,
    images: Images = "fashion-mnist-subset",
    count: Annotated[int, typer.Option("--count", min=1, max=MOST_SAMPLED, help="Subnets to measure, all different.")] = 16_000,
    validation_images: Annotated[int, typer.Option(min=1, help="Held-out images each subnet is judged on.")] = 1000,
    calibration_images: Annotated[int, typer.Option(min=1, help="Training images that each subnet's norm statistics are measured on.")] = 2048,
    resolutions: Resolutions = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=1024, help="Processes, one thread each.")] = 2,
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

    with progress_bar("sampling") as report:
        result = sample_into(
            out, weights_or_shipped(weights), images, count, seed, workers, calibration_images, validation_images, resolutions, report
        )
    if as_json:
        print_json(result.to_dict())
    else:
        say(result.sentence())
