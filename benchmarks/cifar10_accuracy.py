"""Train a supernet of the tiny space on CIFAR-10 and measure how well accuracy predictors rank its subnets.

    python benchmarks/cifar10_accuracy.py train  --data cifar10-jpeg.tar.xz --out FOLDER
    python benchmarks/cifar10_accuracy.py sample --data cifar10-jpeg.tar.xz --out FOLDER
    python benchmarks/cifar10_accuracy.py fit    --data cifar10-jpeg.tar.xz --out FOLDER

The data set is not part of this project: give a folder with `train/` and `test/`, a folder of images a class in each, or
a tar archive of one. Of the 50,000 training images 5,000 are held out by the seed. Each step goes on where it was stopped.

sample: 16,384 uniform subnets on 1,000 of the held-out images, and 400 others on all 10,000 test images; 2,048 training
images calibrate the norms of each. fit: ridge, MLP and XGBoost on the 16,384, judged on a fifth of them that they did not
see, and on the 400, whose labels are of other images and ten times as many.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

from luts.store import MeasurementStore
from predictors.accuracy.judging import evaluate_all
from predictors.quality import judge_accuracies
from profiler.accuracy import evaluate_architectures, sample_accuracies
from profiler.fitting import sampled_accuracies
from supernets.space import Architecture
from supernets.spaces import space
from supernets.training.data import ImageData, open_images
from supernets.training.image_cache import is_image_cache
from supernets.training.loop import TrainProgress, train
from supernets.training.recipes import recipe

SPACE = "ofa-mobilenetv3-tiny:image_channels=3"
VALIDATION_IMAGES = 5000
SAMPLES, TEST_SUBNETS, JUDGED_IMAGES, CALIBRATION_IMAGES = 16_384, 400, 1000, 2048


def cifar10(data: Path, out: Path) -> ImageData:
    """Return CIFAR-10, unpacked and decoded once into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    folder, cache = data, out / "decoded"
    if data.is_file():
        folder = out / "images"
    if data.is_file() and not is_image_cache(cache):
        with tarfile.open(data) as archive:
            archive.extractall(folder, filter="data")
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


def sample_step(options: argparse.Namespace) -> None:
    """Measure the accuracies into `out/accuracies.db` and `out/test_accuracies.db`."""
    images, colour, weights = cifar10(options.data, options.out), space(SPACE), options.out / "supernet" / "supernet.safetensors"
    began_s = time.monotonic()

    def show(done: int, total: int) -> None:
        if done == total or done % 64 == 0:
            print(f"{time.strftime('%H:%M:%S')} {done}/{total} subnets, {(time.monotonic() - began_s) / 60:.1f} min in this call", flush=True)

    with MeasurementStore(options.out / "accuracies.db") as store:
        summary = sample_accuracies(
            colour, weights, images, store, SAMPLES, options.seed, options.workers, CALIBRATION_IMAGES, JUDGED_IMAGES, progress=show
        )
        print(f"{summary.measured} measured in {summary.seconds / 60:.1f} min, {summary.present} were there before", flush=True)
        store.finish()
    with MeasurementStore(options.out / "test_accuracies.db") as store:
        evaluate_architectures(colour, weights, images, test_subnets(options.seed), store, workers=options.workers, progress=show)
        store.finish()


def test_subnets(seed: int) -> list[Architecture]:
    """Return 400 random subnets that are not among the sampled ones."""
    colour = space(SPACE)
    sampled = set(colour.decode(colour.sample_different(SAMPLES, np.random.default_rng(seed))))
    others = colour.decode(colour.sample_different(2 * TEST_SUBNETS, np.random.default_rng([seed, TEST_SUBNETS])))
    return [architecture for architecture in others if architecture not in sampled][:TEST_SUBNETS]


def fit_step(options: argparse.Namespace) -> None:
    """Fit the predictors, print their quality as Markdown, and write it into `out/quality.json`."""
    name, sampled = sampled_accuracies(options.out / "accuracies.db")
    _, tested = sampled_accuracies(options.out / "test_accuracies.db")
    fitted = evaluate_all(name, sampled, seed=options.seed, progress=lambda predictor: print(f"fitting {predictor}", flush=True))
    qualities = {"held-out fifth, 1,000 images": {p: fitted[p].quality_ for p in fitted}}
    qualities["400 subnets, 10,000 test images"] = {
        p: judge_accuracies(space(name), fitted[p].predict(tested.population), tested, sampled) for p in fitted
    }
    (options.out / "quality.json").write_text(json.dumps({k: {p: q.to_dict() for p, q in v.items()} for k, v in qualities.items()}, indent=1))
    for judged_on, by_predictor in qualities.items():
        print(f"\n{judged_on}\n\n| predictor | RMSE, points | Kendall | Kendall inside a resolution | inside each |\n|---|---|---|---|---|")
        for predictor, q in by_predictor.items():
            inside = ", ".join(f"{value}: {tau:.3f}" for value, tau in q.kendall_by_value if tau is not None)
            print(f"| {predictor} | {q.rmse_points:.3f} | {q.kendall:.3f} | {q.kendall_within:.3f} | {inside} |")
        print(f"| line in MACs | {q.macs_rmse_points:.3f} | {q.macs_kendall:.3f} | {q.macs_kendall_within:.3f} | |")
        print(f"\nlabels: standard deviation {q.label_std_points:.2f} points, reliability {q.label_reliability:.3f} overall, "
              f"{q.label_reliability_within:.3f} inside a resolution, noise {q.label_noise_points:.2f} points")  # fmt: skip
    print("\nsample-size curve (RMSE in points / Kendall, held-out fifth)")
    for predictor, model in fitted.items():
        print(f"{predictor}: " + ", ".join(f"{p.count}: {p.rmse_points:.3f} / {p.kendall:.3f}" for p in model.quality_.sample_curve))


def main() -> None:
    """Run the step asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for name, run, text in (
        ("train", train_step, "train the supernet"),
        ("sample", sample_step, "measure accuracies"),
        ("fit", fit_step, "fit and judge"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("--data", type=Path, required=True, help="CIFAR-10 as a folder of images, or a tar archive of it")
        step.add_argument("--out", type=Path, required=True, help="folder for everything this writes")
        step.add_argument("--seed", type=int, default=0)
        step.add_argument("--threads", type=int, default=1, help="of training")
        step.add_argument("--workers", type=int, default=2, help="processes of sampling")
        step.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
