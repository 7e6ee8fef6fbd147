"""Fitting accuracy predictors from files: the workflow behind `profiler fit accuracy`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from luts.accuracies import AccuracyProtocol
from luts.store import MeasurementStore, StoreError
from predictors import accuracy as accuracy_predictors
from predictors.accuracy.judging import cross_validated_rmse_points, evaluate_all, labelled_population
from predictors.quality import AccuracyQuality, LabelledPopulation
from profiler.files import FileKindError, read_json, write_json
from supernets.spaces import space as search_space

SELECTION_FILE = "selection.json"
Report = Callable[[int, int, str], None]


def fit_accuracy(
    samples: Path, out: Path, seed: int, report: Report, names: tuple[str, ...] = ("ridge", "mlp", "xgboost"),
    protocol: AccuracyProtocol | None = None,
) -> dict[str, AccuracyQuality]:  # fmt: skip
    """Fit accuracy predictors on a file of sampled accuracies, save each into a folder of its name, return their qualities.

    Beside them goes what to choose by: each one's error inside the training part, so that no quality is of subnets used for the choice.

    Raises:
        StoreError: the file holds no accuracies of the protocol; or, where none is given, of none or several.
    """
    if not names:
        raise ValueError(f"no accuracy predictor was named; known: {', '.join(accuracy_predictors.names())}")
    space_name, sampled = sampled_accuracies(samples, protocol)
    started: list[str] = []

    def show(name: str) -> None:
        report(len(started), len(names), name)
        started.append(name)

    fitted = evaluate_all(space_name, sampled, names=names, seed=seed, progress=show)
    for name, predictor in fitted.items():
        predictor.save(out / name)
    report(len(names), len(names), "comparing")
    write_json(out / SELECTION_FILE, {"cross_validated_rmse_points": cross_validated_rmse_points(space_name, sampled, names, seed=seed)})
    return {name: predictor.quality_ for name, predictor in fitted.items() if predictor.quality_ is not None}


def best_accuracy(folder: Path) -> tuple[str, AccuracyQuality]:
    """Return the saved accuracy predictor with the lowest cross-validated error inside the training part, and its quality on other subnets.

    Raises:
        FileNotFoundError: the folder was not written by `fit_accuracy`, or lacks what it wrote.
        FileKindError: its file of errors is damaged.
    """
    found, selection = accuracy_qualities(folder), read_json(folder / SELECTION_FILE)
    try:
        errors = {name: float(error) for name, error in selection["cross_validated_rmse_points"].items() if name in found}
        best = min(errors, key=errors.__getitem__)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileKindError(f"{folder / SELECTION_FILE} does not tell the predictors' errors ({error}); fit the predictors again") from None
    return best, found[best]


def accuracy_qualities(folder: Path) -> dict[str, AccuracyQuality]:
    """Return name → quality of the judged accuracy predictors saved in a folder, each in a folder of its name."""
    saved = [accuracy_predictors.load(folder / name) for name in accuracy_predictors.names() if (folder / name).is_dir()]
    return {predictor.name: predictor.quality_ for predictor in saved if predictor.quality_ is not None}


def sampled_accuracies(path: Path, protocol: AccuracyProtocol | None = None) -> tuple[str, LabelledPopulation]:
    """Return the space's name and the measured subnets of a file of sampled accuracies: of a protocol, or of the only one it holds.

    Their order follows from the subnets alone: in the file it depends on which worker was faster.

    Raises:
        StoreError: it holds none, or accuracies of several protocols, which must not be mixed.
    """
    with MeasurementStore(path, read_only=True) as store:
        rows = store.accuracies(protocol)
    protocols = {row.protocol for row in rows}
    if len(protocols) != 1:
        raise StoreError(f"{path} holds accuracies of {len(protocols)} protocols; expected one: sample into a file of its own with `profiler sample`")
    protocol = protocols.pop()
    population = search_space(protocol.space).encode(row.architecture for row in rows)
    order = np.lexsort(population.T[::-1])
    rows, population = [rows[i] for i in order], population[order]
    hits = [row.hits for row in rows] if all(row.hits for row in rows) else None
    return protocol.space, labelled_population(protocol.space, population, np.array([row.top1 for row in rows]), hits, protocol.validation_images)
