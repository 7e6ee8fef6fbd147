"""What a run's folder holds → the data of its report page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from luts.condition import Condition
from luts.store import MeasurementStore, StoreError
from luts.table import LatencyTable, MissingBlockError, NetworkMeasurement
from predictors import accuracy as accuracy_predictors
from predictors.base import LatencyPredictor
from predictors.latency.calibrated import CalibratedAdditive
from predictors.latency.choosing import choose
from predictors.latency.flops_line import FlopsLine
from predictors.latency.judging import fit_and_judge, measured_networks
from profiler.coverage import covered_space
from profiler.files import read_json
from profiler.measuring.evidence import Evidence
from profiler.report import data as report
from profiler.report import findings
from profiler.report.kinds import block_kinds
from profiler.report.session import session
from profiler.report.staircase import staircase
from profiler.search_reporting import accuracy_latency, accuracy_qualities, accuracy_rows, finalists
from profiler.subnet import SubnetRecord, read_subnet
from profiler.system_reporting import left_out_sections, system_facts
from profiler.trust import trust_checks
from supernets import counts
from supernets.blocks import BlockSpec
from supernets.space import SearchSpace
from supernets.spaces import space as search_space

IN_CHAINS = "run in chains as inside a network; 10th percentile of all runs of all visits"
# How block latencies of each origin were come by.
BLOCK_ORIGINS = {
    "measured": IN_CHAINS, "simulated": IN_CHAINS, "interpolated": "from the same blocks at other sides or widths that were measured",
    "imported": "as another tool's table has them", "predicted": "by a predictor",
}  # fmt: skip
FEWEST_NETWORKS = 3  # fewer make no picture
# Sections that only the files of a whole run, or a table's own networks, can fill.
COMMANDS = {"held-out": "profiler collect", "accuracy-latency": "profiler run", "history": "profiler run"}


@dataclass(frozen=True)
class ReportFiles:
    """The files a report is made of; None where there is none, and its sections are left out."""

    table: str | Path
    subnet: Path | None = None
    search: Path | None = None
    accuracy_predictors: tuple[Path, ...] = ()
    chosen_accuracy: Path | None = None
    facts: Path | None = None
    branches: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the paths as a JSON-serialisable mapping."""
        own = {"table": self.table, "subnet": self.subnet, "search": self.search, "chosen_accuracy": self.chosen_accuracy,
               "facts": self.facts, "branches": self.branches}  # fmt: skip
        shown: dict[str, Any] = {name: None if path is None else str(path) for name, path in own.items()}
        return {**shown, "accuracy_predictors": [str(path) for path in self.accuracy_predictors]}


def files_of_run(folder: Path) -> ReportFiles:
    """Return the files of a run's folder, as far as they are there.

    Raises:
        FileNotFoundError: the folder holds no latency table.
    """
    tables = sorted(folder.glob("latency-*.lut"), key=lambda path: path.stat().st_mtime)
    if not tables:
        raise FileNotFoundError(f"{folder} holds no latency table; expected the folder of a `profiler run`")
    subnet, search, facts = folder / "subnet" / "subnet.json", folder / "search.json", folder / "run.json"
    known = read_json(facts) if facts.is_file() else {}
    chosen = known.get("accuracy_predictor")
    predictors = tuple(sorted(path.parent for path in (folder / "predictors").glob("*/predictor.json") if not path.parent.name.startswith("latency")))
    return ReportFiles(
        table=folder / known["table"] if "table" in known else tables[0],
        subnet=subnet if subnet.is_file() else None,
        search=search if search.is_file() else None,
        accuracy_predictors=predictors,
        chosen_accuracy=None if chosen is None else folder / "predictors" / chosen,
        facts=facts if facts.is_file() else None,
        branches=folder / "branches.json" if (folder / "branches.json").is_file() else None,
    )


def report_data(files: ReportFiles) -> report.ReportData:
    """Return the report of these files.

    Raises:
        StoreError: the subnet's latencies are of other conditions than the table's.
        ValueError, OSError: a file is missing or of another kind.
    """
    with MeasurementStore(files.table, read_only=True) as store:
        table, evidence, outcomes = LatencyTable.of_store(store), Evidence.of_store(store), store.outcomes()
        checks = _checks(store, evidence)
        sessions = store.provenance().get("sessions", [])
    record = None if files.subnet is None else read_subnet(files.subnet)
    if record is not None and table.space is not None and table.space.partition(":")[0] != record.architecture.space.partition(":")[0]:
        raise StoreError(f"the subnet is of space {record.architecture.space!r}, {files.table} of {table.space!r}; use a table of the subnet's space")
    if record is not None:
        _refuse_other_conditions(record, table)
    found = None if files.search is None else read_json(files.search)
    known = {} if files.facts is None else read_json(files.facts)
    named = record.architecture.space if record is not None else table.space
    space = None if named is None else search_space(named)
    covered = None if space is None else _covered(space, table)
    qualities = accuracy_qualities(files.accuracy_predictors)
    fitted = {} if covered is None or not len(measured_networks(covered, table, "calibration")) else fit_and_judge(covered, table)
    created, version = made()
    return report.ReportData(
        space="blocks of no named space" if space is None else space.name,
        device=table.condition.device,
        condition=_condition(table, sessions),
        created=created,
        version=version,
        simulated=table.condition.simulated,
        subnet=None if record is None or space is None else _subnet(space, record, table),
        macs_latency=None if space is None else _macs_latency(space, table, fitted),
        kinds=block_kinds(table.entries.values()),
        staircase=None if covered is None else staircase(covered, table),
        session=session(table, evidence, outcomes),
        held_out=None if covered is None else _held_out(covered, table, fitted),
        accuracy_latency=None if found is None or record is None else accuracy_latency(fitted, record, found, files.chosen_accuracy),
        finalists=() if record is None or space is None else finalists(space, record),
        accuracy_predictors=accuracy_rows(qualities, None if files.chosen_accuracy is None else accuracy_predictors.load(files.chosen_accuracy).name),
        accuracy_reliability=next((quality.label_reliability for quality in qualities.values()), None),
        history=() if found is None else tuple(report.SearchPoint(point["evaluations"], point["accuracy"]) for point in found["history"]),
        checks=checks,
        origins=_origins(table, fitted, known),
        commands=COMMANDS,
        system=system_facts(known, space, record, files.branches),
        left_out=left_out_sections(known, space),
    )


def made() -> tuple[str, str]:
    """Return when a page is made, which is now, and by which version."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), metadata.version("elastic-latency")


def _checks(store: MeasurementStore, evidence: Evidence) -> tuple[report.Check, ...]:
    """Return what the visits say of themselves; stored warnings would be of the time when measuring ended, where it did."""
    return tuple(report.Check(check.passed, check.text) for check in trust_checks(store, evidence))


def _refuse_other_conditions(record: SubnetRecord, table: LatencyTable) -> None:
    """Do nothing where the subnet was predicted for the table's condition and, once verified, verified under it too."""
    own = table.condition.to_dict()
    predicted = [record.condition] if record.condition else []
    for done, conditions in (("predicted", predicted), ("verified", [v.condition for v in record.verifications])):
        if conditions and own not in [dict(condition) for condition in conditions]:
            named = table.condition.differences_in_words(Condition.from_dict(conditions[0]))
            raise StoreError(
                f"{table.source} was measured under another condition than the subnet was {done} under ({named}); give the table of that condition"
            )


def _covered(space: SearchSpace, table: LatencyTable) -> SearchSpace | None:
    """Return the part of the space the table answers for; None where there is none yet, as in an unfinished collection."""
    try:
        return covered_space(space, table)
    except MissingBlockError:
        return None


def _condition(table: LatencyTable, sessions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    condition = table.condition
    cores = ", ".join(map(str, condition.cores)) or "not pinned"
    shown = {
        "Processor": condition.cpu_model, "Runtime": f"{condition.runtime} {condition.runtime_version}",
        "Delegate": condition.delegate, "Threads": str(condition.threads), "Cores": cores, "Batch": str(condition.batch),
        "Precision": condition.precision,
    }  # fmt: skip
    if sessions:
        device = sessions[-1].get("device", {})
        shown["Kernel"] = str(device.get("kernel") or "unknown")
        shown["Governor"] = str(device.get("governor") or "unknown")
        shown["Measured"] = datetime.fromtimestamp(sessions[0]["began_unix_s"], timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return shown


def _subnet(space: SearchSpace, record: SubnetRecord, table: LatencyTable) -> report.Subnet:
    search = record.search or {}
    return report.Subnet(
        resolution=record.architecture["resolution"],
        blocks=tuple(_block_row(block, table) for block in space.blocks(record.architecture)),
        max_latency_ms=record.max_latency_ms,
        predicted_latency_ms=record.predicted_latency_ms,
        predicted_accuracy=record.predicted_accuracy,
        measured_accuracy=record.measured_accuracy,
        accuracy_images=record.measured_accuracy_images,
        lowest_latency_ms=search.get("lowest_latency_ms"),
        random_over_budget=search.get("random_networks_over_budget"),
        runs=tuple(sorted(record.verifications, key=lambda run: dict(run.condition) != table.condition.to_dict())),
        files=record.models,
    )


def _block_row(block: BlockSpec, table: LatencyTable) -> report.BlockRow:
    entry = table.entries.get(block.key)
    return report.BlockRow(block) if entry is None else report.BlockRow(block, entry.latency_ms, entry.origin)


def _networks(space: SearchSpace, table: LatencyTable) -> list[NetworkMeasurement]:
    return [n for n in table.networks() if n.architecture is not None and n.architecture.space == space.name]


def _macs_latency(space: SearchSpace, table: LatencyTable, fitted: Mapping[str, LatencyPredictor]) -> report.MacsLatency | None:
    networks = _networks(space, table)
    if len(networks) < FEWEST_NETWORKS:
        return None
    macs = [float(counts.macs(network.blocks)) for network in networks]
    latencies = [network.latency_ms for network in networks]
    judged = fitted.get("flops_line")  # the same line that is scored
    line = (1e6 * judged.line.slope, judged.line.intercept_ms) if isinstance(judged, FlopsLine) else None
    return report.MacsLatency(tuple(macs), tuple(latencies), line)


def _held_out(space: SearchSpace, table: LatencyTable, fitted: Mapping[str, LatencyPredictor]) -> report.HeldOut | None:
    held_out = measured_networks(space, table, "held_out")
    if len(held_out) < FEWEST_NETWORKS or not fitted:
        return None
    predicted = {name: tuple(predictor.predict(held_out.population).tolist()) for name, predictor in fitted.items()}
    qualities = {name: predictor.quality for name, predictor in fitted.items() if predictor.quality is not None}
    calibrated = fitted["calibrated"]
    line = (calibrated.line.intercept_ms, calibrated.line.slope) if isinstance(calibrated, CalibratedAdditive) else None
    return report.HeldOut(
        tuple(held_out.latencies_ms.tolist()), predicted, qualities, choose(fitted), "flops_line", "additive", "calibrated", line,
    )  # fmt: skip


def _origins(table: LatencyTable, fitted: Mapping[str, LatencyPredictor], known: Mapping[str, Any]) -> tuple[report.Origin, ...]:
    device, networks = table.condition.origin, len(table.networks())
    entries = Counter(entry.origin for entry in table.entries.values())
    found = [report.Origin("block latencies", origin, f"{count} blocks, {BLOCK_ORIGINS[origin]}") for origin, count in entries.most_common()]
    if networks:
        found.append(report.Origin("network latencies", device, f"{networks} whole networks, in workers of their own"))
    if fitted:
        used = findings.predictor_label(choose(fitted))
        found.append(report.Origin("latency of a subnet", "predicted", f"{used}: fitted to the calibration networks, chosen by cross-validation"))
    return (
        *found,
        _accuracy_origin(known),
        report.Origin("MACs and parameters", "counted", "multiply-adds of convolutions and linear layers, each counted once"),
    )


def _accuracy_origin(known: Mapping[str, Any]) -> report.Origin:
    if "system" not in known or known.get("accuracy_predictor"):
        text = "by a predictor fitted on subnets measured on held-out images, norms calibrated for each"
        return report.Origin("accuracy of a subnet", "predicted", text)
    return report.Origin("accuracy of a subnet", "measured", "on all test images, its norms calibrated, as the exported network has them")
