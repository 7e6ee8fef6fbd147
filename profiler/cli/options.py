"""Options that several commands share, so that they read the same everywhere, and what makes a value of an option wrong."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer

MOST_SCORED = 10_000_000  # networks of one search; the reference search scores 50,000, a hundred times more is of no use
MOST_SAMPLED = 1_000_000  # subnets of one sampling; at ten milliseconds each they take three hours
MOST_IMAGES_A_RUN = 65_536
MOST_ROUNDS = 10_000  # a round takes a minute or more; a plan of so many has them all in memory
LARGEST_SEED = 2**32 - 1  # what every generator of random numbers here takes


STORE_HEAD = b"SQLite format 3"


class BadOptionError(ValueError):
    """A value on the command line that no file could make right."""

    exit_code = 2


@contextmanager
def typed() -> Iterator[None]:
    """Tell what a plain check of values refuses inside as typed wrong; what is wrong with a file has an error class of its own."""
    try:
        yield
    except (ValueError, LookupError) as error:
        if type(error) in (KeyError, IndexError) or (isinstance(error, ValueError) and type(error) is not ValueError):
            raise
        raise BadOptionError(str(error)) from error


def _space(name: str) -> str:
    from supernets.spaces import space

    with typed():
        space(name)
    return name


def checked_space(name: str | None) -> str | None:
    """Return the name of a space that there is, or None where none was given; raises BadOptionError for another name."""
    return None if name is None else _space(name)


def _resolutions(text: str | None) -> str | None:
    from supernets.spaces import parse_resolutions

    if text is not None:
        with typed():
            sides = parse_resolutions(text)
        if sides[0] < 1:
            raise BadOptionError(f"--resolutions {text!r} has a side of {sides[0]} pixels; expected positive ones, such as 128:224:4")
    return text


def images_given(text: str | None) -> str | None:
    """Return the name or path of images; raises BadOptionError where it is empty, which would be the folder that the user is in."""
    if text is not None and not text.partition(":")[0].strip():
        raise BadOptionError(f"--images {text!r} names no images; expected fashion-mnist-subset, a folder or an .npz file")
    return text


def file_to_write(path: Path) -> Path:
    """Return the path of a file that can be written, before any work is done for it; raw measurements are never written over.

    Raises:
        BadOptionError: measurements or a folder have that name, or its own folder cannot be written to.
    """
    store_to_write(path)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(STORE_HEAD)) == STORE_HEAD:
                raise BadOptionError(f"--out {path} is a file of measurements, which would be lost; give the name of another file")
    return path


def store_to_write(path: Path) -> Path:
    """Return the path of a file of measurements that can be made, or gone on with, before any work is done for it.

    Raises:
        BadOptionError: a folder has that name, or its own folder cannot be written to.
    """
    if path.exists() and not path.is_file():
        raise BadOptionError(f"--out {path} is a folder, or something else that is no plain file; give the name of a file to write")
    _refuse_unwritable(path, path.parent)
    return path


def folder_to_write(path: Path) -> Path:
    """Return the path of a folder that can be written to, before any work is done for it; raises what `file_to_write` does."""
    _refuse_unwritable(path, path)
    return path


def _refuse_unwritable(path: Path, folder: Path) -> None:
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise BadOptionError(f"--out {path} cannot be written: {existing} is a file, not a folder")
    try:
        with TemporaryFile(dir=existing):  # rights alone do not tell: a disk can be mounted for reading
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:  # what a command writes may be there already, to be gone on with
            raise BadOptionError(f"--out {path} cannot be written: nothing can be made in {existing} ({error.strerror})") from None


def predictor_folder(path: Path | None) -> Path | None:
    """Return the folder of a fitted predictor; raises FileNotFoundError where it holds several, each in a folder of its own."""
    if path is not None and path.is_dir() and not (path / "predictor.json").exists():
        inside = sorted(file.parent.name for file in path.glob("*/predictor.json"))
        if inside:
            raise FileNotFoundError(
                f"folder {path} holds the predictors {', '.join(inside)}, each in a folder of its own; give one, as {path / inside[0]}"
            )
    return path


def latency_budget(value: float | None) -> float | None:
    """Return a budget in milliseconds; raises BadOptionError for one that is no latency."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise BadOptionError(f"--max-latency-ms is {value:g}; expected a positive number of milliseconds")
    return value


SpaceName = Annotated[
    str,
    typer.Option(
        "--space", callback=_space, help="Search space; `profiler spaces` lists them. Options ride on the name: NAME:image_channels=3,classes=37."
    ),
]
Resolutions = Annotated[
    str | None,
    typer.Option(
        "--resolutions", callback=_resolutions, help="Input sides, such as 128:224:4 (first:last:step) or 160/224; all of the space by default."
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="Device; `profiler devices` lists them.")]
Runtime = Annotated[str | None, typer.Option("--runtime", help="Such as onnxruntime or litert; the device's own choice by default.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime; the device's own choice by default.")]
Cores = Annotated[str | None, typer.Option("--cores", help="Processor cores to run on, such as 1 or 0,1; the device's own choice by default.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything random; the same seed gives the same result.")]
Images = Annotated[
    str,
    typer.Option(
        "--images",
        callback=images_given,
        help="fashion-mnist-subset (comes with the package), fashion-mnist, an image folder (train/, test/, a folder a class), such a folder with"
        " the side to scale to and where to keep it decoded (DIR:side=224,cache=FOLDER), or an .npz file.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Supernet weights (.safetensors) of `profiler train`; the tiny ones that come with the package by default."),
]
JudgingWorkers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Processes for measuring accuracies, one thread each; by default 2, to judge on a GPU 1."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]


def judging_workers(given: int | None, device: str) -> int:
    """Return how many processes judge subnets on a device: two where no number was given, on a GPU one.

    Raises:
        BadOptionError: several were asked for on a GPU.
    """
    if not device.startswith("cuda"):
        return 2 if given is None else given
    if given not in (None, 1):
        raise BadOptionError(f"--workers {given} was asked for on device {device!r}; one process keeps a GPU busy, leave --workers out")
    return 1


def parse_cores(text: str | None) -> tuple[int, ...] | None:
    """Return the cores in `0,1`.

    Raises:
        BadOptionError: the text is not a list of numbers.
    """
    if text is None:
        return None
    try:
        cores = tuple(int(part) for part in text.split(","))
        if min(cores) < 0:
            raise ValueError
        return cores
    except ValueError:
        raise BadOptionError(f"--cores is {text!r}; expected core numbers such as 1 or 0,1") from None
