"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpaceName = Annotated[
    str, typer.Option("--space", help="Search space; `profiler spaces` lists them. Options ride on the name: NAME:image_channels=3,classes=37.")
]
Resolutions = Annotated[
    str | None, typer.Option("--resolutions", help="Input sides, such as 128:224:4 (first:last:step) or 160/224; all of the space by default.")
]
DeviceName = Annotated[str, typer.Option("--device", help="Device; `profiler devices` lists them.")]
Runtime = Annotated[str | None, typer.Option("--runtime", help="onnxruntime or litert; the device's own choice by default.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime; the device's own choice by default.")]
Cores = Annotated[str | None, typer.Option("--cores", help="Processor cores to run on, such as 1 or 0,1; the device's own choice by default.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random; the same seed gives the same result.")]
Images = Annotated[
    str,
    typer.Option(
        "--images",
        help="fashion-mnist-subset (comes with the package), fashion-mnist, an image folder (train/, test/, a folder a class) or an .npz file.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Supernet weights (.safetensors) of `profiler train`; the tiny ones that come with the package by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]


def parse_cores(text: str | None) -> tuple[int, ...] | None:
    """Return the cores in `0,1`.

    Raises:
        ValueError: the text is not a list of numbers.
    """
    if text is None:
        return None
    try:
        cores = tuple(int(part) for part in text.split(","))
        if min(cores) < 0:
            raise ValueError
        return cores
    except ValueError:
        raise ValueError(f"--cores is {text!r}; expected core numbers such as 1 or 0,1") from None
