"""The whole job: the stages of a system, in order; each is the workflow behind one command. See `profiler.pipeline` for the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceError
from predictors.quality import AccuracyQuality
from profiler.choice_stages import choose, fit, fit_latencies, next_finalist, search
from profiler.collecting import collect_table, space_to_measure
from profiler.exporting import export_from_files
from profiler.files import read_json, write_json
from profiler.fitting import accuracy_qualities
from profiler.pipeline import Display, RunSettings, StageLog, digest
from profiler.reporting import files_of_run, report_data
from profiler.run_under_way import Report, Run, formats_of, runtimes_of
from profiler.subnet import SubnetRecord, read_subnet, write_subnet
from profiler.weight_stages import find_weights, retrain, sample, train_weights
from supernets.folder_lock import hold

__all__ = ["Run", "RunResult", "run"]

CHECK_IMAGES = 256


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


def run(settings: RunSettings, display: Display) -> RunResult:
    """Do the whole job and return the chosen subnet's record and the report's place.

    Raises:
        FolderInUseError: another run works in the folder.
        ValueError, LookupError, OSError, ImportError, RuntimeError: a stage failed; what it had done is kept.
    """
    formats = formats_of(settings)  # refuses ones that could not be written, before hours of measuring
    settings.out.mkdir(parents=True, exist_ok=True)
    with hold(settings.out, "run"):
        return _run(settings, display, formats)


def _run(settings: RunSettings, display: Display, formats: tuple[str, ...]) -> RunResult:
    space = space_to_measure(settings.size.space, settings.resolutions)
    started = Run(settings, display, StageLog.of(settings.out), space, runtimes_of(settings), formats)
    stages: dict[str, Callable[[Run, Report], str]] = {
        "collect": _collect, "train": train_weights, "sample": sample, "fit": fit, "search": search, "choose": choose, "retrain": retrain,
        "branches": _branches, "export": _export, "verify": _verify, "report": _report,
    }  # fmt: skip
    find_weights(started)
    names = started.system.stages
    for number, name in enumerate(names, start=1):
        with display.stage(number, len(names), name) as report:
            display.say(stages[name](started, report))
    return RunResult(read_subnet(started.subnet_file), accuracy_qualities(settings.out / "predictors"), settings.out / "report.html")


def _collect(run: Run, report: Report) -> str:
    sentences = []
    for runtime in run.runtimes:
        with run.agent(runtime) as agent:
            result = collect_table(run.space, agent, run.table(runtime), run.settings.numbers.protocol, run.settings.seed, report)
        if not result.summary.complete:
            missing = f"{result.summary.pending_visits} visits of {run.table(runtime)} are still to make"
            raise DeviceError(f"{missing}, as the device kept throttling; cool it and run the same command again")
        sentences.append(f"{result.blocks} blocks, {result.networks} networks on {runtime or 'the device'}")
    fit_latencies(run)
    return "; ".join(sentences)


def _branches(run: Run, report: Report) -> str:
    """Show that the merged network's latency does not depend on which branches it was merged from."""
    from profiler.branch_proof import BranchProof, prove

    record, path = read_subnet(run.subnet_file), run.folder / "branches.json"
    inputs = digest(record.architecture.to_dict(), run.runtimes[0], run.table_digests())
    if not run.log.finished("branches", inputs, path):
        run.log.begin("branches")
        with run.agent(run.runtimes[0]) as agent:
            proof = prove(run.space, record.architecture, agent, run.folder / "branches.lut", inputs, report)
        write_json(path, proof.to_dict())
        run.log.finish("branches", inputs)
    return BranchProof.from_dict(read_json(path)).sentence()


def _export(run: Run, report: Report) -> str:
    record = read_subnet(run.subnet_file)
    inputs = digest(
        run.log.digests.get("choose"), run.formats, *([record.weights_sha256] if "retrain" in run.system.stages else []),
        *([] if (run.precision, run.batch) == ("float32", 1) else [run.precision, run.batch]),
    )  # fmt: skip
    if not (record.models and run.log.finished("export", inputs, *(run.subnet_file.parent / model.file for model in record.models))):
        run.log.begin("export")
        _exported(run)
        run.log.finish("export", inputs)
    models = read_subnet(run.subnet_file).models
    return "; ".join(
        f"{m.file} {m.bytes / 1e6:.2f} MB, {m.accuracies() or f'within {m.relative_difference:.0e} of the supernet on {m.check_images} images'}"
        for m in models
    )


def _exported(run: Run) -> None:
    numbers, folder = run.settings.numbers, run.subnet_file.parent
    export_from_files(
        run.subnet_file, run.weights, run.images, folder, run.formats, numbers.calibration_images, CHECK_IMAGES, run.precision, batch=run.batch
    )


def _verify(run: Run, report: Report) -> str:
    """Measure the exported files; one that misses the budget gives way to the next finalist, as long as there is one."""
    inputs = digest(run.log.digests.get("export"), run.runtimes)
    replaced = 0
    if not run.log.finished("verify", inputs):
        run.log.begin("verify")
        _verified(run, inputs, report)
        while (other := next_finalist(run, read_subnet(run.subnet_file))) is not None:
            replaced += 1
            write_subnet(run.subnet_file, other)
            _exported(run)
            _verified(run, inputs, report)
        run.log.finish("verify", inputs)
    verifications = read_subnet(run.subnet_file).verifications
    others = f"; {replaced} finalists missed the budget here and gave way" if replaced else ""
    return "; ".join(f"{v.condition['runtime']}: {v.measured_latency_ms:.3f} ms {v.origin}" for v in verifications) + others


def _verified(run: Run, inputs: str, report: Report) -> None:
    """Measure the exported files with each runtime; a killed run goes on with the measurements of the same network."""
    from profiler.predicting import predicted_latency_ms
    from profiler.verifying import verify_subnet

    folder = run.subnet_file.parent
    session = digest(inputs, read_subnet(run.subnet_file).architecture.to_dict())
    for number, runtime in enumerate(run.runtimes):
        with run.agent(runtime) as agent:
            record = read_subnet(run.subnet_file)
            predicted = predicted_latency_ms(record, agent.info(), None, run.latency_predictor(runtime))
            budget = record.max_latency_ms if number == 0 else None
            verify_subnet(record, folder, agent, folder / f"verification-{runtime or 'device'}.lut", predicted, budget, report, session)


def _report(run: Run, report: Report) -> str:
    from profiler.report.page import write_report

    path = write_report(report_data(files_of_run(run.folder)), run.folder / "report.html")
    return str(path)
