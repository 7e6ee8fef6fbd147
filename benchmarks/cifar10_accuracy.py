"""Train a supernet of the tiny space on CIFAR-10 and measure how well accuracy predictors rank its subnets.

    python benchmarks/cifar10_accuracy.py train --data cifar10-jpeg.tar.xz --out FOLDER

The data set is not part of this project: give a folder with `train/` and `test/`, a folder of images a class in each, or
a tar archive of one. Of the 50,000 training images 5,000 are held out by the seed. Each step goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tarfile
import time
from pathlib import Path

from supernets.spaces import space
from supernets.training.data import ImageData, open_images
from supernets.training.loop import TrainProgress, train
from supernets.training.recipes import recipe

SPACE = "ofa-mobilenetv3-tiny:image_channels=3"
VALIDATION_IMAGES = 5000


def cifar10(data: Path, out: Path) -> ImageData:
    """Return CIFAR-10, unpacked and decoded once into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    folder, cache = data, out / "cifar10.npz"
    if data.is_file() and not cache.is_file():
        folder = out / "images"
        with tarfile.open(data) as archive:
            archive.extractall(folder, filter="data")
    elif data.is_file():
        folder = out
    return open_images(str(folder), validation_images=VALIDATION_IMAGES, seed=0, cache=cache)


def train_step(options: argparse.Namespace) -> None:
    """Train the supernet into `out/supernet`, a line about it each half minute."""
    last_line = 0.0

    def show(progress: TrainProgress) -> None:
        nonlocal last_line
        if time.monotonic() - last_line > 30 or progress.step == progress.steps:
            last_line = time.monotonic()
            print(
                f"{time.strftime('%H:%M:%S')} step {progress.step}/{progress.steps} phase {progress.phase} loss {progress.loss:.3f} "
                f"{progress.images_per_s:.0f} images/s, {progress.seconds_left / 60:.1f} min left",
                flush=True,
            )

    images = cifar10(options.data, options.out)
    provenance = {"command": shlex.join(["python", *sys.argv])}
    summary = train(space(SPACE), images, recipe("cifar"), options.out / "supernet", options.seed, options.threads, show, provenance=provenance)
    print(f"{summary.weights}: {summary.trained_steps} of {summary.steps} steps in this call, {summary.seconds / 60:.1f} min")
    for entry in summary.history:
        corners = ", ".join(f"{name} {top1:.2%}" for name, top1 in entry["validation_top1"].items())
        print(f"  {entry['phase']}: {entry['steps']} steps, mean loss {entry['mean_loss']:.3f}, validation {corners}")


def main() -> None:
    """Run the step asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    training = steps.add_parser("train", help="train the supernet")
    training.add_argument("--data", type=Path, required=True, help="CIFAR-10 as a folder of images, or a tar archive of it")
    training.add_argument("--out", type=Path, required=True, help="folder for everything this writes")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--threads", type=int, default=1)
    training.set_defaults(run=train_step)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
