"""The stages of a run, in order; each is the workflow behind one command. See `profiler.pipeline` for the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceAgent, DeviceError
from device_agents.devices import connect, find_device
from luts.accuracies import AccuracyProtocol
from predictors.quality import AccuracyQuality
from profiler.collecting import collect_table, space_to_measure
from profiler.exporting import RUNTIME_OF, export_from_files
from profiler.files import sha256_of, write_json
from profiler.fitting import SELECTION_FILE, accuracy_qualities, best_accuracy, fit_accuracy, sampled_accuracies
from profiler.latency_fitting import fit_latency
from profiler.pipeline import STAGES, Display, RunSettings, StageLog, digest
from profiler.reporting import files_of_run, report_data
from profiler.searching import NoneKeptError, Predictors, best_kept, demoted, finalists_of, search_subnet, with_measured_latencies
from profiler.shipped import shipped_weights
from profiler.subnet import SubnetRecord, read_subnet, write_subnet
from supernets.space import SearchSpace

Report = Callable[[int, int, str], None]
CHECK_IMAGES = 256
MOST_SEARCHES = 4  # each with a larger safety margin, until a measured finalist keeps the budget
MARGIN_STEP = 0.02


@dataclass(frozen=True)
class RunResult:
    """What a run ends with."""

    record: SubnetRecord
    accuracy: dict[str, AccuracyQuality]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-serialisable mapping: the subnet with its verifications, the predictors' qualities, and all files."""
        folder = self.report.parent
        files = {
            **files_of_run(folder).to_dict(), "accuracies": str(folder / "accuracies.db"), "report": str(self.report),
            "models": [str(folder / "subnet" / model.file) for model in self.record.models],
        }  # fmt: skip
        qualities = {name: quality.to_dict() for name, quality in self.accuracy.items()}
        return {"files": files, "subnet": self.record.to_dict(), "accuracy_predictors": qualities}


@dataclass
class Run:
    """A run under way: its settings, what its stages found, and where they tell it."""

    settings: RunSettings
    display: Display
    log: StageLog
    space: SearchSpace
    runtimes: tuple[str | None, ...]
    weights: Path = Path()
    images: str = ""
    weights_from: str = ""  # where the weights are from, in words; empty where they are to be trained
    protocol: AccuracyProtocol | None = None
    chosen_accuracy: str = ""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.settings.out

    def table(self, runtime: str | None) -> Path:
        """Return the place of a runtime's latency table."""
        return self.folder / f"latency-{runtime or 'device'}.lut"

    def latency_predictor(self, runtime: str | None) -> Path:
        """Return the folder of the latency predictor fitted to a runtime's table."""
        return self.folder / "predictors" / f"latency-{runtime or 'device'}"

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats to export: those that the runtimes run, all where no runtime was asked for, and those that were asked for."""
        asked = self.settings.formats
        return tuple(name for name, runtime in RUNTIME_OF.items() if self.settings.runtimes is None or runtime in self.runtimes or name in asked)

    def agent(self, runtime: str | None) -> DeviceAgent:
        """Return an agent of the device with this runtime."""
        s = self.settings
        return connect(s.device, runtime=runtime, threads=s.threads, cores=s.cores, devices_file=s.devices_file, settings=s.device_settings)


def run(settings: RunSettings, display: Display) -> RunResult:
    """Do the whole job and return the chosen subnet's record and the report's place.

    Raises:
        ValueError, LookupError, OSError, ImportError, RuntimeError: a stage failed; what it had done is kept.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    started = Run(settings, display, StageLog.of(settings.out), space_to_measure(settings.space, settings.resolutions), _runtimes(settings))
    stages: dict[str, Callable[[Run, Report], str]] = {
        "collect": _collect, "train": _train, "sample": _sample, "fit": _fit, "search": _search, "choose": _choose, "export": _export,
        "verify": _verify, "report": _report,
    }  # fmt: skip
    _find_weights(started)
    for number, name in enumerate(STAGES, start=1):
        with display.stage(number, len(STAGES), name) as report:
            display.say(stages[name](started, report))
    record = read_subnet(settings.out / "subnet" / "subnet.json")
    return RunResult(record, accuracy_qualities(settings.out / "predictors"), settings.out / "report.html")


def _runtimes(settings: RunSettings) -> tuple[str | None, ...]:
    """Return the runtimes to measure, the one with the budget first: both of this machine; (None,), the device's own one, of another device."""
    if settings.runtimes is not None:
        return settings.runtimes
    device = find_device(settings.device, settings.device_settings, settings.devices_file)
    if device.transport != "local":
        return (None,)
    return tuple(sorted(("onnxruntime", "litert"), key=lambda runtime: runtime != device.settings.get("runtime")))


def _collect(run: Run, report: Report) -> str:
    sentences = []
    for runtime in run.runtimes:
        with run.agent(runtime) as agent:
            result = collect_table(run.space, agent, run.table(runtime), run.settings.numbers.protocol, run.settings.seed, report)
        if not result.summary.complete:
            missing = f"{result.summary.pending_visits} visits of {run.table(runtime)} are still to make"
            raise DeviceError(f"{missing}, as the device kept throttling; cool it and run the same command again")
        sentences.append(f"{result.blocks} blocks, {result.networks} networks on {runtime or 'the device'}")
    return "; ".join(sentences)


def _find_weights(run: Run) -> None:
    """Find the supernet's weights and images, given or shipped, before hours of measuring that could come to nothing.

    Raises:
        ValueError: there are no weights or images, or the weights are of another space.
        FileNotFoundError: the weights are not there.
    """
    settings, shipped = run.settings, shipped_weights(run.space.name)
    if settings.weights is None and not settings.train and shipped is None:
        raise ValueError(
            f"no weights come with space {run.space.name!r}; give some (--weights FILE --images DATA) or train them (--train --images DATA)"
        )
    run.images = settings.images or (shipped[1] if shipped is not None and settings.weights is None else "")
    if not run.images:
        raise ValueError("a run with weights of your own, or one that trains them, needs the images to judge subnets on; give them with --images")
    if not settings.train:
        run.weights = settings.weights or shipped[0]  # type: ignore[index]
        run.weights_from = "weights that come with the package" if settings.weights is None else f"weights given: {run.weights}"
        _refuse_weights_of_another_space(run)


def _refuse_weights_of_another_space(run: Run) -> None:
    from supernets.networks.checkpoint import supernet_metadata

    trained = supernet_metadata(run.weights).get("space")
    if trained != run.space.name:
        raise ValueError(f"weights {run.weights} are of space {trained!r}, the run is of {run.space.name!r}; give weights of the run's space")


def _train(run: Run, report: Report) -> str:
    """Train the supernet, where weights were neither given nor shipped."""
    return f"{run.weights_from}; images: {run.images}" if run.weights_from else _trained(run, report)


def _trained(run: Run, report: Report) -> str:
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.loop import TrainProgress, train
    from supernets.training.recipes import recipe

    def show(progress: TrainProgress) -> None:
        report(progress.step, progress.steps, f"{progress.phase}: loss {progress.loss:.3f}, {progress.images_per_s:.0f} images/s")

    whole = search_space(run.space.name)
    summary = train(whole, open_images(run.images), recipe(run.settings.numbers.recipe), run.folder / "training", run.settings.seed, 1, show)
    run.weights = summary.weights
    return f"trained on {run.images} in {summary.steps} steps"


def _sample(run: Run, report: Report) -> str:
    from profiler.sampling import sample_into

    settings, numbers = run.settings, run.settings.numbers
    summary = sample_into(
        run.folder / "accuracies.db", run.weights, run.images, settings.samples or numbers.samples, settings.seed, settings.workers,
        numbers.calibration_images, numbers.validation_images, settings.resolutions, report,
    )  # fmt: skip
    run.protocol = summary.summary.protocol
    return summary.sentence()


def _fit(run: Run, report: Report) -> str:
    protocol = None if run.protocol is None else run.protocol.to_dict()
    tables = [sha256_of(run.table(runtime)) for runtime in run.runtimes]
    _, sampled = sampled_accuracies(run.folder / "accuracies.db", run.protocol)
    inputs = digest(run.space.name, sampled.population.tolist(), sampled.accuracies.tolist(), protocol, tables, run.settings.seed)
    folder = run.folder / "predictors"
    if not run.log.finished("fit", inputs, folder / SELECTION_FILE):
        run.log.begin("fit")
        fit_accuracy(run.folder / "accuracies.db", folder, run.settings.seed, report, protocol=run.protocol)
        for runtime in run.runtimes:
            fit_latency(run.space, run.table(runtime), run.latency_predictor(runtime))
        run.log.finish("fit", inputs)
    run.chosen_accuracy, quality = best_accuracy(folder)
    write_json(run.folder / "run.json", {"table": run.table(run.runtimes[0]).name, "accuracy_predictor": run.chosen_accuracy})
    figures = f"RMSE {quality.rmse_points:.2f} points, Kendall {quality.kendall:.2f} on {quality.test_count} subnets"
    return f"best accuracy predictor {run.chosen_accuracy}: {figures}"


def _predictors(run: Run) -> Predictors:
    from predictors import accuracy, latency

    fitted = latency.load(run.latency_predictor(run.runtimes[0]), run.space)
    return Predictors(run.space, accuracy.load(run.folder / "predictors" / run.chosen_accuracy, run.space), fitted)


def _searched(run: Run, safety_margin: float, report: Report) -> SubnetRecord:
    settings, predictors = run.settings.numbers.search, _predictors(run)
    asked_ms = run.settings.max_latency_ms
    budget_ms = predictors.median_latency_ms(run.settings.seed) if asked_ms is None else asked_ms
    record, result = search_subnet(
        predictors, budget_ms, "evolution", settings, run.settings.seed,
        lambda point: report(point.generation, settings.generations, f"{point.accuracy:.2%} at {point.latency_ms:.3f} ms"), safety_margin,
    )  # fmt: skip
    write_json(run.folder / "search.json", result.to_dict())
    return record.changed(finalists=record.finalists[: run.settings.numbers.finalists])


def _search(run: Run, report: Report) -> str:
    inputs = digest(run.log.digests.get("fit"), run.settings.max_latency_ms, run.settings.numbers.search.to_dict(), run.settings.seed)
    searched = run.folder / "searched.json"
    if not run.log.finished("search", inputs, searched, run.folder / "search.json"):
        run.log.begin("search")
        write_subnet(searched, _searched(run, 0.0, report))
        run.log.finish("search", inputs)
    record = read_subnet(searched)
    facts = record.search or {}
    return (
        f"predicted {record.predicted_accuracy:.2%} at {record.predicted_latency_ms:.3f} ms, budget {record.max_latency_ms:.3f} ms "
        f"({facts['random_networks_over_budget']:.0%} of random networks miss it)"
    )


def _choose(run: Run, report: Report) -> str:
    """Measure the finalists, latency and accuracy, and take the best that keeps the budget; search again if none does."""
    inputs = digest(run.log.digests.get("search"), sha256_of(run.weights))
    chosen = run.folder / "subnet" / "subnet.json"
    if not run.log.finished("choose", inputs, chosen):
        run.log.begin("choose")
        write_subnet(chosen, _chosen(run, inputs, report))
        run.log.finish("choose", inputs)
    record = read_subnet(chosen)
    accuracy = f"test accuracy {record.measured_accuracy:.2%} on {record.measured_accuracy_images} images"
    return f"{record.device_origin} {record.measured_latency_ms:.3f} ms; {accuracy}"


def _chosen(run: Run, session: str, report: Report) -> SubnetRecord:
    from profiler.sampling import accuracies_of

    record = read_subnet(run.folder / "searched.json")
    numbers = run.settings.numbers
    for attempt in range(1, MOST_SEARCHES + 1):
        with run.agent(run.runtimes[0]) as agent:
            record = with_measured_latencies(record, agent, run.folder / "finalists.lut", report, f"{session}.{attempt}")
        try:
            best_kept(record)
        except NoneKeptError as error:
            margin = MARGIN_STEP * attempt
            if attempt == MOST_SEARCHES:
                searches = f"{attempt} searches, the last with a safety margin of {margin - MARGIN_STEP:.0%}, found no network that the device"
                raise NoneKeptError(f"{searches} confirms: {error.what}; raise the budget with --max-latency-ms") from None
            record = _searched(run, margin, report)
        else:
            break
    accuracies, _ = accuracies_of(finalists_of(record), run.weights, run.images, "validation", numbers.calibration_images, numbers.validation_images)
    finalists = tuple({**f, "measured_accuracy": accuracy} for f, accuracy in zip(record.finalists, accuracies, strict=True))
    return _tested(run, best_kept(record.changed(finalists=finalists)))


def _tested(run: Run, record: SubnetRecord) -> SubnetRecord:
    """Return the record with its architecture's accuracy on all test images, which nothing was chosen by."""
    from profiler.sampling import accuracies_of

    (tested,), images = accuracies_of([record.architecture], run.weights, run.images, "test", run.settings.numbers.calibration_images, None)
    return record.changed(measured_accuracy=tested, measured_accuracy_images=images, weights_sha256=sha256_of(run.weights))


def _export(run: Run, report: Report) -> str:
    inputs = digest(run.log.digests.get("choose"), run.formats)
    folder = run.folder / "subnet"
    if not run.log.finished("export", inputs, *(folder / f"subnet.{name}" for name in run.formats)):
        run.log.begin("export")
        _exported(run)
        run.log.finish("export", inputs)
    models = read_subnet(folder / "subnet.json").models
    return "; ".join(
        f"{m.file} {m.bytes / 1e6:.2f} MB, within {m.relative_difference:.0e} of the supernet on {m.check_images} images" for m in models
    )


def _exported(run: Run) -> None:
    folder = run.folder / "subnet"
    export_from_files(folder / "subnet.json", run.weights, run.images, folder, run.formats, run.settings.numbers.calibration_images, CHECK_IMAGES)


def _verify(run: Run, report: Report) -> str:
    """Measure the exported files; one that misses the budget gives way to the next finalist, as long as there is one."""
    inputs = digest(run.log.digests.get("export"), run.runtimes)
    subnet = run.folder / "subnet" / "subnet.json"
    replaced = 0
    if not run.log.finished("verify", inputs):
        run.log.begin("verify")
        _verified(run, f"{inputs}.0", report)
        while (other := _next_finalist(read_subnet(subnet))) is not None:
            replaced += 1
            write_subnet(subnet, _tested(run, other))
            _exported(run)
            _verified(run, f"{inputs}.{replaced}", report)
        run.log.finish("verify", inputs)
    verifications = read_subnet(subnet).verifications
    others = f"; {replaced} finalists missed the budget here and gave way" if replaced else ""
    return "; ".join(f"{v.condition['runtime']}: {v.measured_latency_ms:.3f} ms {v.origin}" for v in verifications) + others


def _verified(run: Run, session: str, report: Report) -> None:
    from profiler.predicting import predicted_latency_ms
    from profiler.verifying import verify_subnet

    folder = run.folder / "subnet"
    for number, runtime in enumerate(run.runtimes):
        with run.agent(runtime) as agent:
            record = read_subnet(folder / "subnet.json")
            predicted = predicted_latency_ms(record, agent.info(), None, run.latency_predictor(runtime))
            budget = record.max_latency_ms if number == 0 else None
            verify_subnet(record, folder, agent, folder / f"verification-{runtime or 'device'}.lut", predicted, budget, report, session)


def _next_finalist(record: SubnetRecord) -> SubnetRecord | None:
    """Return the record of the best finalist left after this one missed the budget; None if it kept it, or none is left."""
    first = record.verifications[0]
    if first.kept is not False:
        return None
    try:
        return best_kept(demoted(record, first.measured_latency_ms)).changed(models=(), verifications=())
    except NoneKeptError:
        return None


def _report(run: Run, report: Report) -> str:
    from profiler.report.page import write_report

    path = write_report(report_data(files_of_run(run.folder)), run.folder / "report.html")
    return str(path)
