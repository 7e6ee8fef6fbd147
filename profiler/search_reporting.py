"""What the search for a subnet and its accuracy predictors add to the data of a report page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from predictors import accuracy as accuracy_predictors
from predictors.base import LatencyPredictor
from predictors.latency.choosing import choose
from predictors.quality import AccuracyQuality
from profiler.report import data as report
from profiler.report.system import ACCURACY_WORDS
from profiler.subnet import SubnetRecord
from supernets import counts
from supernets.space import SearchSpace

RANDOM_SHOWN = 400  # random networks drawn into the accuracy-latency figure


def accuracy_latency(
    fitted: Mapping[str, LatencyPredictor], record: SubnetRecord, found: Mapping[str, Any], chosen_accuracy: Path | None
) -> report.AccuracyLatency:
    """Return the picture of a search from its file's content, with random networks where both kinds of predictors are there."""
    front = tuple((point["latency_ms"], point["accuracy"]) for point in found["front"])
    random: tuple[tuple[float, float], ...] = ()
    if chosen_accuracy is not None and fitted:
        latency = fitted[choose(fitted)]
        population = latency.space.sample_population(RANDOM_SHOWN, np.random.default_rng(0))
        accuracies = accuracy_predictors.load(chosen_accuracy).predict(population)
        random = tuple(zip(latency.predict(population).tolist(), accuracies.tolist(), strict=True))
    facts = record.search or {}
    budget = facts.get("objective", "budget") == "budget"
    return report.AccuracyLatency(
        front, random, _chosen(record), record.max_latency_ms if budget else facts["latency_ms"], ACCURACY_WORDS[_is(record, "accuracy")],
        _is(record, "latency"), "budget" if budget else "target",
    )  # fmt: skip


def _is(record: SubnetRecord, figure: str) -> str:
    """Return what the search's accuracies or latencies are; older files have predicted ones."""
    return str((record.search or {}).get(f"{figure}_is", "predicted"))


def _chosen(record: SubnetRecord) -> tuple[float, float] | None:
    """Return latency and accuracy of the chosen network, as the search saw them."""
    own = next((f for f in record.finalists if f["architecture"] == record.architecture.to_dict()), record.to_dict())
    found = own.get(f"{_is(record, 'latency')}_latency_ms"), own.get(f"{_is(record, 'accuracy')}_accuracy")
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def finalists(space: SearchSpace, record: SubnetRecord) -> tuple[report.Finalist, ...]:
    """Return the finalists that were measured on the device."""
    return tuple(
        report.Finalist(
            predicted_accuracy=f.get("proxy_accuracy", f.get("predicted_accuracy")),
            predicted_latency_ms=f.get("predicted_latency_ms"),
            measured_accuracy=f.get("measured_accuracy"),
            measured_latency_ms=f.get("measured_latency_ms"),
            macs=counts.macs(space.blocks(space.architecture(f["architecture"]["values"]))),
            chosen=f["architecture"] == record.architecture.to_dict(),
        )
        for f in record.finalists
        if "measured_latency_ms" in f
    )


def accuracy_rows(qualities: Mapping[str, AccuracyQuality], chosen: str | None) -> tuple[report.AccuracyPredictorRow, ...]:
    """Return a row a predictor, and one of the baseline they are held against."""
    rows = []
    for name, quality in qualities.items():
        rows.append(
            report.AccuracyPredictorRow(
                name,
                quality.training_count,
                quality.rmse_points / 100,
                quality.kendall,
                kendall_within_resolution=quality.kendall_within,
                chosen=name == chosen,
            )
        )
    if rows:
        rows.append(
            report.AccuracyPredictorRow(
                "line in MACs (baseline)",
                quality.training_count,
                quality.macs_rmse_points / 100,
                quality.macs_kendall,
                kendall_within_resolution=quality.macs_kendall_within,
            )
        )
    return tuple(rows)


def accuracy_qualities(folders: Iterable[Path]) -> dict[str, AccuracyQuality]:
    """Return name → quality of the accuracy predictors saved in these folders, as far as they were judged."""
    predictors = [accuracy_predictors.load(folder) for folder in folders]
    return {predictor.name: predictor.quality_ for predictor in predictors if predictor.quality_ is not None}
