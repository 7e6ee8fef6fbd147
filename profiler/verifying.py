"""Proof on the device: exported models are measured, and set beside what was predicted and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceAgent
from luts.store import MeasurementStore
from luts.table import NetworkMeasurement
from profiler.files import FileKindError, sha256_of
from profiler.measuring.models import file_precision
from profiler.measuring.networks import measure_networks
from profiler.measuring.plan import NetworkItem
from profiler.measuring.settings import ProtocolSettings
from profiler.subnet import ExportedModel, SubnetRecord, Verification, write_subnet
from profiler.trust import TrustCheck, trust_checks
from supernets.counts import macs

# Whole networks only, in six fresh processes of some seconds each: a shared machine stays slow for up to seconds, so visits
# packed into one of them would all be slow. How many visits that is, the MACs decide; a slower device takes longer.
ROUNDS, RUNS, WARMUP_RUNS = 6, 10, 2
ROUND_MS, VISIT_MS, MS_PER_MMAC = 3000.0, 1.0, 0.02
FEWEST_VISITS, MOST_VISITS = 8, 400  # a round
Report = Callable[[int, int, str], None]


class NothingToVerifyError(ValueError):
    """A subnet file has no model that the device's runtime could run."""


@dataclass(frozen=True)
class Verified:
    """The subnet with its verification in it, and what to be wary of in that."""

    record: SubnetRecord
    warnings: tuple[TrustCheck, ...]


@dataclass(frozen=True)
class MeasuredItems:
    """The measurements of whole networks, in order, the condition they were made under, and what to be wary of in them."""

    measurements: tuple[NetworkMeasurement, ...]
    condition: Mapping[str, Any]
    warnings: tuple[TrustCheck, ...]


def verify_subnet(
    record: SubnetRecord,
    folder: Path,
    agent: DeviceAgent,
    store_path: Path,
    predicted_latency_ms: float | None,
    max_latency_ms: float | None,
    report: Report,
    session: str = "verification",
) -> Verified:
    """Measure the subnet's model of the agent's format, write the subnet file anew and return it with the verification in it.

    A verification under the same condition takes the place of an earlier one.

    Raises:
        NothingToVerifyError: no model of that format, precision and batch was exported.
        FileKindError: the model file is not the one that was exported.
        StoreError, DeviceError: see `profiler.measuring.networks.measure_networks`.
    """
    info = agent.info()
    model = _model_of(record, agent.model_format, file_precision(info.precision), info.batch)
    path = folder / model.file
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which the subnet file names; export the subnet again")
    if sha256_of(path) != model.sha256:
        raise FileKindError(f"{path} is not the model that was exported (its SHA-256 differs from the subnet file's); export the subnet again")
    item = NetworkItem(model.file, tuple(record.space.blocks(record.architecture)), record.architecture, "verification", path.read_bytes())
    made = measure_items(agent, store_path, [item], session, report)
    measured, condition = made.measurements, made.condition
    found = Verification(
        format=model.format, condition=condition, predicted_latency_ms=predicted_latency_ms, measured_latency_ms=measured[0].latency_ms,
        relative_spread=measured[0].relative_spread, max_latency_ms=max_latency_ms, visits=measured[0].visits, samples=measured[0].samples,
    )  # fmt: skip
    others = [earlier for earlier in record.verifications if dict(earlier.condition) != dict(condition)]
    record = record.changed(verifications=(*others, found))
    write_subnet(folder / "subnet.json", record)
    return Verified(record, made.warnings)


def _model_of(record: SubnetRecord, model_format: str, precision: str, batch: int) -> ExportedModel:
    for model in record.models:
        if (model.format, model.precision, model.batch) == (model_format, precision, batch):
            return model
    there = ", ".join(f"{model.format} {model.precision}{_of_batch(model.batch)}" for model in record.models) or "none"
    wanted = f"{model_format} model of precision {precision}{_of_batch(batch)}"
    raise NothingToVerifyError(f"the subnet file has no {wanted} (it has: {there}), which the device's runtime needs; profiler export writes one")


def _of_batch(batch: int) -> str:
    return "" if batch == 1 else f" of batch {batch}"


def settings_for(items: Sequence[NetworkItem]) -> ProtocolSettings:
    """Return the protocol for measuring these networks side by side."""
    pass_ms = sum(VISIT_MS + (RUNS + WARMUP_RUNS) * MS_PER_MMAC * macs(item.blocks) / 1e6 for item in items)
    visits = min(MOST_VISITS, max(FEWEST_VISITS, round(ROUND_MS / pass_ms)))
    return ProtocolSettings(rounds=ROUNDS, most_rounds=ROUNDS, network_visits=visits, network_runs=RUNS, network_warmup=WARMUP_RUNS)


def measure_items(agent: DeviceAgent, store_path: Path, items: Sequence[NetworkItem], session: str, report: Report) -> MeasuredItems:
    """Return the measurements of whole networks by a session of this name, which goes on where a killed one was."""
    store_path.parent.mkdir(parents=True, exist_ok=True)
    with MeasurementStore(store_path) as store:
        found = measure_networks(agent, store, items, settings_for(items), session=session, progress=lambda done, total: report(done, total, ""))
        condition = store.condition()
        checks = trust_checks(store, keys={item.key(session) for item in items})
    warnings = tuple(check for check in checks if not check.passed)
    return MeasuredItems(found.measurements, {} if condition is None else condition.to_dict(), warnings)
