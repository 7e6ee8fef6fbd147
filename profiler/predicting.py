"""Predicting what one subnet or architecture costs, from files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from device_agents.base import DeviceInfo
from luts.condition import Condition
from luts.store import StoreError
from luts.table import LatencyTable
from predictors import latency as latency_predictors
from predictors.base import LatencyPredictor
from predictors.latency.additive import Additive
from predictors.latency.choosing import choose
from predictors.latency.judging import INTERVAL_COVERAGE, best_of_table, fit_and_judge, measured_networks
from profiler.coverage import covered_space
from profiler.measuring.session import condition_of
from profiler.subnet import SubnetRecord
from supernets import counts
from supernets.space import Architecture, Population
from supernets.spaces import space as search_space


@dataclass(frozen=True)
class Prediction:
    """What is known of one architecture without measuring it; latencies in milliseconds, accuracy as a fraction of one.

    `intervals_ms` is predictor → limits that 90 % of such measurements lie between, None where it knows no errors of its own.
    `block_origins` is where the blocks' own figures come from → of how many blocks; empty where no such figures were summed.
    """

    macs: int
    parameters: int
    latencies_ms: dict[str, float]
    intervals_ms: dict[str, tuple[float, float] | None]
    accuracy: float | None
    block_origins: dict[str, int] = field(default_factory=dict)

    def unmeasured(self) -> str | None:
        """Return how many of the blocks have figures that were not measured, such as "7 of 12 blocks interpolated"; None where all were."""
        blocks = sum(self.block_origins.values())
        others = [(origin, count) for origin, count in self.block_origins.items() if origin != "measured"]
        told = [f"{count} of {blocks}{' blocks' * (not i)} {origin}" for i, (origin, count) in enumerate(others)]
        return ", ".join(told) or None


def predict(architecture: Architecture, table: str | Path | None, latency: Path | None, accuracy: Path | None) -> Prediction:
    """Return counts, the latency by each predictor of a table (or a fitted one), and the accuracy by a fitted predictor.

    Raises:
        ValueError: a file is of another kind or space.
        MissingBlockError: the table lacks blocks of the architecture.
    """
    space = search_space(architecture.space)
    population, blocks = space.encode([architecture]), space.blocks(architecture)
    latencies_ms: dict[str, float] = {}
    intervals_ms: dict[str, tuple[float, float] | None] = {}
    origins: list[str] = []
    if table is not None:
        opened = LatencyTable.open(table)
        latencies_ms["sum of the table"] = opened.latency_ms(blocks)
        origins = [opened.entry(block).origin for block in blocks]
        covered = covered_space(space, opened)
        if len(measured_networks(covered, opened, "calibration")):
            fitted = fit_and_judge(covered, opened)
            for name in ("flops_line", choose(fitted)):
                latencies_ms[name], intervals_ms[name] = _predicted_ms(fitted[name], population)
    if latency is not None:
        loaded = latency_predictors.load(latency, space)
        if table is None and isinstance(loaded, Additive):
            origins = [loaded.entries[block.key].origin for block in blocks]
        latencies_ms[loaded.name], intervals_ms[loaded.name] = _predicted_ms(loaded, population)
    predicted_accuracy = None
    if accuracy is not None:
        from predictors.accuracy import load as load_accuracy

        predicted_accuracy = float(load_accuracy(accuracy, space).predict(population)[0])
    return Prediction(counts.macs(blocks), counts.parameters(blocks), latencies_ms, intervals_ms, predicted_accuracy, dict(Counter(origins)))


def _predicted_ms(predictor: LatencyPredictor, population: Population) -> tuple[float, tuple[float, float] | None]:
    """Return the latency of the population's only architecture, and its 90 % interval, None where the predictor knows no errors of its own."""
    predicted_ms = float(predictor.predict(population)[0])
    if predictor.cross_validation is None:
        return predicted_ms, None
    lower_ms, upper_ms = predictor.predict_interval(population, INTERVAL_COVERAGE)
    return predicted_ms, (float(lower_ms[0]), float(upper_ms[0]))


def predicted_latency_ms(record: SubnetRecord, info: DeviceInfo, table: str | Path | None, latency: Path | None = None) -> float | None:
    """Return what a fitted predictor, or a table, predicts for the subnet; without either, what its own file says, if that was for this condition.

    Raises:
        StoreError: the predictor or the table is of another condition than the device offers.
        MissingBlockError: the table lacks blocks of the space.
    """
    condition = condition_of(info)
    if latency is not None:
        return _by_predictor(latency_predictors.load(latency, record.space), str(latency), record, condition)
    if table is None:
        return record.predicted_latency_ms if record.condition == condition.to_dict() else None
    opened = LatencyTable.open(table)
    _refuse_other_condition(str(table), opened.condition, condition)
    opened.latency_ms(record.space.blocks(record.architecture))  # names the blocks that are missing
    return _by_predictor(best_of_table(covered_space(record.space, opened), opened), str(table), record, condition)


def _by_predictor(predictor: LatencyPredictor, source: str, record: SubnetRecord, condition: Condition) -> float:
    if predictor.condition is not None:
        _refuse_other_condition(source, predictor.condition, condition)
    return float(predictor.predict(record.space.encode([record.architecture]))[0])


def _refuse_other_condition(source: str, known: Condition, offered: Condition) -> None:
    named = known.differences_in_words(offered)
    if named:
        raise StoreError(f"{source} was measured under another condition than this device offers ({named}); use one of this condition")
