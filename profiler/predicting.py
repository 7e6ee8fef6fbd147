"""Predicting what one subnet or architecture costs, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceInfo
from luts.store import StoreError
from luts.table import LatencyTable
from predictors.latency.judging import fit_and_judge, measured_networks
from profiler.coverage import covered_space
from profiler.measuring.session import condition_of
from profiler.searching import latency_of_table
from profiler.subnet import SubnetRecord
from supernets import counts
from supernets.space import Architecture
from supernets.spaces import space as search_space


@dataclass(frozen=True)
class Prediction:
    """What is known of one architecture without measuring it; latencies in milliseconds, accuracy as a fraction of one."""

    macs: int
    parameters: int
    latencies_ms: dict[str, float]
    accuracy: float | None


def predict(architecture: Architecture, table: Path | None, latency: Path | None, accuracy: Path | None) -> Prediction:
    """Return counts, the latency by each predictor of a table (or a fitted one), and the accuracy by a fitted predictor.

    Raises:
        ValueError: a file is of another kind or space.
        MissingBlockError: the table lacks blocks of the architecture.
    """
    space = search_space(architecture.space)
    population, blocks = space.encode([architecture]), space.blocks(architecture)
    latencies_ms: dict[str, float] = {}
    if table is not None:
        opened = LatencyTable.open(table)
        latencies_ms["sum of the table"] = opened.latency_ms(blocks)
        covered = covered_space(space, opened)
        if len(measured_networks(covered, opened, "calibration")):
            for name, predictor in fit_and_judge(covered, opened, ("flops_line", "calibrated")).items():
                latencies_ms[name] = float(predictor.predict(population)[0])
    if latency is not None:
        from predictors.latency import load as load_latency

        fitted = load_latency(latency, space)
        latencies_ms[fitted.name] = float(fitted.predict(population)[0])
    predicted_accuracy = None
    if accuracy is not None:
        from predictors.accuracy import load as load_accuracy

        predicted_accuracy = float(load_accuracy(accuracy, space).predict(population)[0])
    return Prediction(counts.macs(blocks), counts.parameters(blocks), latencies_ms, predicted_accuracy)


def predicted_latency_ms(record: SubnetRecord, info: DeviceInfo, table: Path | None) -> float | None:
    """Return what a table predicts for the subnet; without one, what its own file says, if that was for this condition.

    Raises:
        StoreError: the table is of another condition than the device offers.
        MissingBlockError: the table lacks blocks of the space.
    """
    condition = condition_of(info)
    if table is None:
        return record.predicted_latency_ms if record.condition == condition.to_dict() else None
    opened = LatencyTable.open(table)
    named = opened.condition.differences_in_words(condition)
    if named:
        raise StoreError(f"{table} was measured under another condition than this device offers ({named}); use a table of this condition")
    opened.latency_ms(record.space.blocks(record.architecture))  # names the blocks that are missing
    predicted: Any = latency_of_table(covered_space(record.space, opened), opened).predict(record.space.encode([record.architecture]))
    return float(predicted[0])
