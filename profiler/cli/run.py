"""`profiler run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli.device_options import Address, Batch, Cluster, Delegate, DevicesFile, Precision, Runner, Set, one_device, settings_of
from profiler.cli.options import (
    MOST_SAMPLED,
    AsJson,
    BadOptionError,
    Cores,
    DeviceName,
    JudgingWorkers,
    Resolutions,
    Seed,
    Threads,
    checked_space,
    folder_to_write,
    images_given,
    judging_workers,
    latency_budget,
    parse_cores,
    typed,
)

if TYPE_CHECKING:
    from profiler.pipeline import RunSettings

FITTING, REPORTING = ("sklearn", "xgboost"), ("matplotlib", "jinja2")  # packages that the stages of these names import


def command(
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder of the run; the same folder goes on with it.")],
    system: Annotated[
        str, typer.Option("--system", help="ofa, bignas, mnasnet or repnas: how weights, accuracies and the choice come about.")
    ] = "ofa",
    space: Annotated[
        str | None, typer.Option("--space", callback=checked_space, help="Search space; the system's own one for the preset by default.")
    ] = None,
    device: DeviceName = "local",
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            "--max-latency-ms",
            callback=latency_budget,
            help="Budget, or target of another objective; by default one that half of the random networks would miss.",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="tiny or demo (minutes), full (hours), or imagenet (the large spaces, on images of your own).")
    ] = "demo",
    runtimes: Annotated[
        str | None, typer.Option("--runtimes", "--runtime", help="Runtimes to measure, first the one with the budget; onnxruntime,litert by default.")
    ] = None,
    threads: Threads = None,
    cores: Cores = None,
    address: Address = None,
    runner: Runner = None,
    cluster: Cluster = None,
    delegate: Delegate = None,
    precision: Precision = None,
    batch: Batch = None,
    assignments: Set = None,
    devices_file: DevicesFile = None,
    resolutions: Resolutions = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", callback=images_given, help="Images to judge subnets on, as for `profiler sample`; those of the shipped weights by default."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Supernet weights; the ones that come with the package by default.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the supernet first instead of taking given or shipped weights.")] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", min=50, max=MOST_SAMPLED, help="Subnets whose accuracy is measured; the preset's number by default.")
    ] = None,
    workers: JudgingWorkers = None,
    formats: Annotated[
        str | None, typer.Option("--formats", help="Model formats to export beside those that --runtimes need; onnx,tflite without --runtimes.")
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Recipe of the training; the system's own one for the preset by default.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Search strategy, as of `profiler search`; the system's by default.")] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="What to search for, as of `profiler search`; the system's by default.")
    ] = None,
    latency: Annotated[
        str, typer.Option("--latency", help="Where the search's latencies are from: lut (the table's predictor), or device (each network measured).")
    ] = "lut",
    training_device: Annotated[
        str, typer.Option("--training-device", help="cpu or cuda: where networks are trained (on a GPU in half precision where safe) and judged.")
    ] = "cpu",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Do the whole job of a system: measure, train, search, choose, export, verify on the device, report.

    Finished stages are skipped; killed, the same command goes on where it was.

    \b
    Example: profiler run --system bignas --preset tiny --device local --out runs/bignas
    """
    from profiler.cli.matching import refuse_mismatched_run
    from profiler.cli.output import print_json, put
    from profiler.cli.tables import print_accuracy_qualities, print_run, print_verifications
    from profiler.exporting import parse_formats
    from profiler.pipeline import RunSettings
    from profiler.run_under_way import formats_of
    from profiler.stages import run
    from profiler.systems import PROXY
    from profiler.systems import system as named_system

    device = one_device(device)
    common = {"address": address, "runner": runner, "cluster": cluster, "delegate": delegate, "precision": precision, "batch": batch}
    given = settings_of([device], assignments, **common)[device]
    with typed():
        trained_alone = named_system(system).accuracy == PROXY  # then it is trainings that share the work, on a GPU too
        processes = judging_workers(workers, "cpu" if trained_alone else training_device)
        settings = RunSettings(
            space=space, out=out, device=device, devices_file=devices_file, threads=threads, cores=parse_cores(cores), device_settings=given,
            preset=preset, images=images, weights=weights, train=train, samples=samples, max_latency_ms=max_latency_ms, workers=processes, seed=seed,
            resolutions=resolutions, system=system, recipe=recipe, strategy=strategy, objective=objective, latency=latency,
            training_device=training_device,
            runtimes=parse_runtimes(runtimes),
            formats=() if formats is None else parse_formats(formats),
        )  # fmt: skip
        refuse_mismatched_run(settings)
        formats_of(settings)
    _refuse_missing_packages(settings)
    terminal = Terminal()
    result = run(settings, terminal)
    if as_json:
        print_json({"stages": terminal.stages, **result.to_dict()})
    else:
        if result.accuracy:
            print_accuracy_qualities(result.accuracy)
        print_run(result.record)
        print_verifications(result.record.verifications)
        put(f"report: {result.report}")
    if result.record.verifications[0].kept is False:
        raise typer.Exit(1)


def _refuse_missing_packages(settings: RunSettings) -> None:
    """Do nothing where the packages of a run's late stages are there: they would be missed after hours."""
    from importlib.util import find_spec

    from profiler.systems import PREDICTED

    for package in (*(FITTING if settings.what.accuracy == PREDICTED else ()), *REPORTING):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def parse_runtimes(text: str | None) -> tuple[str, ...] | None:
    """Return the runtimes in `onnxruntime,litert`.

    Raises:
        BadOptionError: one is there twice, and would be measured twice into one table.
    """
    if text is None:
        return None
    names = tuple(filter(None, text.split(",")))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadOptionError(f"--runtimes {text!r} names {twice[0]} twice; name each runtime once")
    return names


class Terminal:
    """Shows a run's stages on standard error: a bar while one runs, a line when it is done; `stages` are those done."""

    def __init__(self) -> None:
        self.stages: list[dict[str, object]] = []
        self._lines: list[str] = []

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show a stage; yields report(done, total, note)."""
        from time import monotonic

        from profiler.cli.output import progress_bar, say

        began = monotonic()
        self._lines = []
        with progress_bar(f"[{number}/{of}] {name}") as report:
            yield report
        seconds = monotonic() - began
        for line in self._lines or [""]:
            say(f"[{number}/{of}] {name:8s} {seconds:6.1f} s  {line}")
        self.stages.append({"stage": name, "seconds": seconds, "lines": self._lines})

    def say(self, text: str) -> None:
        """Keep one line to show when the stage is done."""
        self._lines.append(text)
