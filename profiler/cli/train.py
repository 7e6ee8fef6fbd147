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
        str,
        typer.Option(
            "--recipe",
            help="Progressive shrinking: small (minutes on a CPU), small-long, cifar, imagenet (Once-for-All's own); of ResNet-50: small-resnet,"
            " small-resnet-long, imagenet-resnet."
            " Sandwich rule: bignas-small, bignas, bignas-paper. Searched branches: repnas-small, repnas-paper, repnas-release.",
        ),
    ] = "small",
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda; started by torchrun, each process has a GPU of its own.")] = "cpu",
    mixed_precision: Annotated[
        bool | None, typer.Option("--mixed-precision/--full-precision", help="Half precision where it is safe; on GPUs by default.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a space's supernet by a recipe; killed, the same command goes on where it was.

    Several processes share each batch when torchrun starts them: torchrun --nproc-per-node 8 -m profiler train --device cuda ...

    \b
    Example: profiler train --space ofa-mobilenetv3-tiny --images fashion-mnist-subset --recipe small --out trained/
    """
    from profiler.cli.matching import refuse_recipe_of_another_space
    from profiler.cli.output import print_json, progress_bar, say
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.distributed import joined
    from supernets.training.loop import TrainProgress, train
    from supernets.training.machine import Machine
    from supernets.training.recipes import recipe as recipe_of

    with typed():
        wanted = recipe_of(recipe)
        refuse_recipe_of_another_space(wanted, search_space(space))
        Machine(device, bool(mixed_precision))
    with joined(device) as (group, own_device), progress_bar("training") as report:
        half = own_device.startswith("cuda") if mixed_precision is None else mixed_precision

        def show(progress: TrainProgress) -> None:
            report(progress.step, progress.steps, f"{progress.phase}: loss {progress.loss:.3f}, {progress.images_per_s:.0f} images/s")

        def decoding(done: int, total: int) -> None:
            report(done, total, "decoding images")

        provenance = {"command": shlex.join(["profiler", *sys.argv[1:]])}
        machine = Machine(own_device, half, group)
        data = open_images(images, progress=decoding)
        summary = train(search_space(space), data, wanted, out, seed, threads, show, provenance=provenance, machine=machine)
    if not group.first:
        return
    if as_json:
        print_json({**asdict(summary), "weights": str(summary.weights), "history": [dict(phase) for phase in summary.history]})
    elif summary.already_finished:
        say(f"nothing to do: {summary.weights} is finished ({summary.steps} steps)")
    else:
        say(f"{summary.weights} is trained: {summary.trained_steps} of {summary.steps} steps in {summary.seconds:.0f} s of this run")
