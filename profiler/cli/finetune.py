"""`profiler finetune`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, Images, Seed, folder_to_write, typed


def command(
    subnet: Annotated[Path, typer.Option("--subnet", help="Subnet file of `profiler search`, or a plain architecture (space, values).")],
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder for the tuned weights and their subnet file.")],
    supernet: Annotated[
        Path | None, typer.Option("--supernet", "--weights", help="Supernet weights to begin from; those that come for its space by default.")
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", min=0.001, help="Passes over the training images.")] = 25,
    images: Images = "fashion-mnist-subset",
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=1e-9, help="Of the first step; it falls as a cosine.")] = 0.01,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Images a step, of all processes together.")] = 64,
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda; started by torchrun, each process has a GPU of its own.")] = "cpu",
    mixed_precision: Annotated[
        bool | None, typer.Option("--mixed-precision/--full-precision", help="Half precision where it is safe; on GPUs by default.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train one subnet on alone, from its weights in the supernet; killed, the same command goes on where it was.

    \b
    Example: profiler finetune --subnet subnet.json --supernet supernet.safetensors --epochs 25 --out tuned/
    """
    from profiler.cli.output import print_json, progress_bar, say
    from profiler.finetuning import finetune_from_files, tuning_recipe
    from supernets.training.machine import Machine

    with typed():
        tuning_recipe(epochs, learning_rate, batch_size)
        Machine(device, bool(mixed_precision))
    with progress_bar("tuning") as report:
        result = finetune_from_files(
            subnet, supernet, images, out, epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed, threads=threads, device=device,
            mixed_precision=mixed_precision, report=report,
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes that torchrun started tells the result
    if as_json:
        print_json(result.to_dict())
    else:
        say(result.sentence())
        say(f"the subnet file is {result.subnet}; `profiler export --subnet {result.subnet} --weights {result.weights}` writes its models")
