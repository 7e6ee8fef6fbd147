"""`profiler train`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, Images, Seed, SpaceName, folder_to_write, typed


def command(
    space: SpaceName,
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder for checkpoints and supernet.safetensors.")],
    images: Images = "fashion-mnist-subset",
    recipe: Annotated[
        str, typer.Option("--recipe", help="Training recipe: small (minutes on a CPU), cifar, or imagenet (Once-for-All's own).")
    ] = "small",
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024, help="CPU threads.")] = 1,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a space's supernet by progressive shrinking; killed, the same command goes on where it was.

    \b
    Example: profiler train --space ofa-mobilenetv3-tiny --images fashion-mnist-subset --recipe small --out trained/
    """
    from profiler.cli.output import print_json, progress_bar, say
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.loop import TrainProgress, train
    from supernets.training.recipes import recipe as recipe_of

    with typed():
        wanted = recipe_of(recipe)
    with progress_bar("training") as report:

        def show(progress: TrainProgress) -> None:
            report(progress.step, progress.steps, f"{progress.phase}: loss {progress.loss:.3f}, {progress.images_per_s:.0f} images/s")

        provenance = {"command": shlex.join(["profiler", *sys.argv[1:]])}
        summary = train(search_space(space), open_images(images), wanted, out, seed, threads, show, provenance=provenance)
    if as_json:
        print_json({**asdict(summary), "weights": str(summary.weights), "history": [dict(phase) for phase in summary.history]})
    elif summary.already_finished:
        say(f"nothing to do: {summary.weights} is finished ({summary.steps} steps)")
    else:
        say(f"{summary.weights} is trained: {summary.trained_steps} of {summary.steps} steps in {summary.seconds:.0f} s of this run")
