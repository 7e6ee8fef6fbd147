"""Searching with files: tables and predictors in, a subnet record out; and choosing among finalists by measuring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from device_agents.base import DeviceAgent
from luts.condition import Condition
from luts.store import StoreError
from luts.table import LatencyTable
from predictors import accuracy as accuracy_predictors
from predictors import latency as latency_predictors
from predictors.latency.judging import best_of_table
from profiler.collecting import narrowed
from profiler.coverage import covered_space
from profiler.measuring.plan import NetworkItem
from profiler.measuring.session import condition_of
from profiler.subnet import SubnetRecord, finalist_accuracy, record_of
from profiler.verifying import measure_items
from search.driver import HistoryPoint, SearchResult, search
from search.rewards import objective_of
from search.settings import SearchSettings
from search.strategies.exhaustive import refuse_large
from supernets.space import Architecture, Population, SearchSpace
from supernets.spaces import space as search_space

RANDOM_NETWORKS = 1000  # drawn to say what a budget means


class NoneKeptError(ValueError):
    """No measured finalist keeps the budget; `what` says so without advice."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


class AccuracySource(Protocol):
    """Whatever knows the accuracy of each architecture of a population: a predictor, or something that measures it."""

    def predict(self, X: Population, /) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the accuracies (0 to 1), shape (n_architectures,)."""


class LatencySource(Protocol):
    """Whatever knows the latency of each architecture of a population under one condition."""

    condition: Condition | None

    def predict(self, population: Population, /) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the latencies in milliseconds, shape (n_architectures,)."""


@dataclass(frozen=True)
class Predictors:
    """What a search asks: an accuracy (a fraction of one) and a latency (milliseconds) of each architecture.

    `accuracy_is` and `latency_is` say what their figures are: `predicted` or `measured`, an accuracy also `proxy`, of networks
    trained shortly. With `quick`, a latency predictor, what a budget means is told by that instead of by measuring a thousand networks.
    """

    space: SearchSpace
    accuracy: AccuracySource
    latency: LatencySource
    accuracy_is: str = "predicted"
    latency_is: str = "predicted"
    quick: LatencySource | None = None

    @property
    def condition(self) -> dict[str, Any] | None:
        """The condition the latencies are predicted for; None if it is not known."""
        return None if self.latency.condition is None else self.latency.condition.to_dict()

    @property
    def resolutions(self) -> tuple[Any, ...]:
        """The resolutions that are searched."""
        return next((choice.allowed for choice in self.space.choices if choice.name == "resolution"), ())

    def random_latencies_ms(self, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return predicted latencies of random networks, ascending."""
        population = self.space.sample_population(RANDOM_NETWORKS, np.random.default_rng([seed, RANDOM_NETWORKS]))
        return np.sort((self.quick or self.latency).predict(population))

    def median_latency_ms(self, seed: int) -> float:
        """Return a budget that half of the random networks miss, by prediction."""
        return float(np.median(self.random_latencies_ms(seed)))


def open_predictors(
    table: str | Path | None, latency: Path | None, accuracy: Path, resolutions: str | None = None, strategy: str = "", device: str | None = None
) -> Predictors:  # fmt: skip
    """Return the predictors of files: the accuracy predictor's folder, and a latency table or a fitted latency predictor.

    Without `resolutions`, the space is what the table covers or the latency predictor was fitted for. Where strategy and device are told,
    what they cannot do with these files is refused before anything is fitted or searched.

    Raises:
        ValueError: neither or both of table and latency predictor were given, or one is of another space; or the space is too large for the strategy.
        StoreError: the latencies are of another device.
        MissingBlockError: the table lacks blocks of the space.
    """
    if (table is None) == (latency is None):
        raise ValueError("a search needs a latency table (--table FILE) or a fitted latency predictor (--latency FOLDER), one of the two")
    model = accuracy_predictors.load(accuracy)
    space = narrowed(search_space(model.space_name), resolutions)
    if table is not None:
        opened = LatencyTable.open(table)
        space = covered_space(space, opened) if resolutions is None else space
        _refuse_unsearchable(space, opened.condition, strategy, device)
        return Predictors(space, model, best_of_table(space, opened))
    fitted = latency_predictors.load(latency or Path())
    if fitted.space.name != space.name:
        raise ValueError(
            f"{latency} predicts latencies of space {fitted.space.name!r}, {accuracy} accuracies of {space.name!r}; use predictors of one space"
        )
    space = fitted.space if resolutions is None else space
    _refuse_unsearchable(space, fitted.condition, strategy, device)
    return Predictors(space, model, fitted)


def _refuse_unsearchable(space: SearchSpace, condition: Condition | None, strategy: str, device: str | None) -> None:
    if strategy == "exhaustive":
        refuse_large(space)
    if device is not None and condition is not None:
        _refuse_other_device(condition.device, device)


def _refuse_other_device(own: str, device: str) -> None:
    if own != device:
        raise StoreError(f"the latencies were predicted for device {own!r}, not for {device!r}; give --device {own}, or a table of {device!r}")


def search_subnet(
    predictors: Predictors,
    max_latency_ms: float,
    strategy: str,
    settings: SearchSettings,
    seed: int,
    report: Callable[[HistoryPoint], None],
    safety_margin: float = 0.0,
    objective: str = "budget",
) -> tuple[SubnetRecord, SearchResult]:
    """Return the best subnet by the predictors, under the budget or by another objective (`search.rewards`), as a record, with the whole result.

    Raises:
        BudgetError: no network of the space keeps the budget; the text names the lowest latency.
    """
    accuracy, latency = predictors.accuracy.predict, predictors.latency.predict
    guide = None if predictors.quick is None else predictors.quick.predict
    result = search(predictors.space, accuracy, latency, max_latency_ms, strategy, settings, seed, report, safety_margin, objective, guide)
    share = float(np.mean(predictors.random_latencies_ms(seed) > max_latency_ms))
    facts = {
        "strategy": strategy, "objective": objective, "latency_ms": max_latency_ms, "seed": seed, "settings": settings.to_dict(),
        "safety_margin": safety_margin, "evaluations": result.evaluations, "lowest_latency_ms": result.lowest.latency_ms,
        "random_networks_over_budget": share,
    }  # fmt: skip
    accuracy_name, latency_name = f"{predictors.accuracy_is}_accuracy", f"{predictors.latency_is}_latency_ms"
    finalists = tuple({"architecture": f.architecture.to_dict(), accuracy_name: f.accuracy, latency_name: f.latency_ms} for f in result.finalists)
    facts |= {"accuracy_is": predictors.accuracy_is, "latency_is": predictors.latency_is}
    budget_ms = max_latency_ms if objective == "budget" else None  # a target is no budget
    record = record_of(result.best.architecture, max_latency_ms=budget_ms, condition=predictors.condition, search=facts, finalists=finalists)
    best = {latency_name: result.best.latency_ms, **({accuracy_name: result.best.accuracy} if predictors.accuracy_is == "predicted" else {})}
    return record.changed(**best), result


def with_measured_latencies(
    record: SubnetRecord, agent: DeviceAgent, store: Path, report: Callable[[int, int, str], None], session: str
) -> SubnetRecord:
    """Return the record with each finalist's latency measured on the device, side by side in one session of this name.

    What the store holds of the same session is not measured again; what it holds of others is left alone.

    Raises:
        StoreError: the device offers another condition than the latencies were predicted for.
        DeviceError: the device failed.
    """
    refuse_other_condition(agent, record.condition)
    architectures = [Architecture.from_dict(finalist["architecture"]) for finalist in record.finalists]
    items = [NetworkItem(f"finalist-{i:02d}", tuple(record.space.blocks(a)), a, "finalist") for i, a in enumerate(architectures)]
    measured = measure_items(agent, store, items, session, report).measurements
    finalists = tuple({**f, "measured_latency_ms": m.latency_ms} for f, m in zip(record.finalists, measured, strict=True))
    return record.changed(finalists=finalists)


def refuse_other_condition(agent: DeviceAgent, condition: Mapping[str, Any] | None) -> None:
    """Do nothing if the agent offers the condition.

    Raises:
        StoreError: it offers another; the text names what differs.
    """
    if condition is not None:
        named = Condition.from_dict(condition).differences_in_words(condition_of(agent.info()))
        if named:
            raise StoreError(f"the latencies were predicted for another condition than this device offers ({named}); use a table of this condition")


def best_kept(record: SubnetRecord) -> SubnetRecord:
    """Return the record with its best finalist by measurement that keeps the budget, if there is one: by measured accuracy where there is one.

    Raises:
        NoneKeptError: none of them keeps it.
    """
    kept = [f for f in record.finalists if record.max_latency_ms is None or f["measured_latency_ms"] <= record.max_latency_ms]
    if not kept:
        lowest = min(f["measured_latency_ms"] for f in record.finalists)
        raise NoneKeptError(
            f"none of {len(record.finalists)} finalists keeps the budget of {record.max_latency_ms:g} ms on the device, "
            f"the fastest took {lowest:.4g} ms",
            "search again with --safety-margin 0.05, or raise the budget",
        )
    best = kept[int(np.argmax(_worth(record, kept)))]
    chosen = record_of(record.space.architecture(Architecture.from_dict(best["architecture"])))
    return record.changed(
        architecture=chosen.architecture, macs=chosen.macs, parameters=chosen.parameters, predicted_latency_ms=best.get("predicted_latency_ms"),
        predicted_accuracy=best.get("predicted_accuracy"), measured_latency_ms=best["measured_latency_ms"],
    )  # fmt: skip


def _worth(record: SubnetRecord, finalists: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what measured finalists are worth by the objective they were searched for."""
    accuracies = np.array([finalist_accuracy(finalist) for finalist in finalists])
    facts = record.search or {}
    if facts.get("objective", "budget") == "budget":
        return accuracies
    return objective_of(facts["objective"], facts["latency_ms"]).values(accuracies, np.array([f["measured_latency_ms"] for f in finalists]))


def demoted(record: SubnetRecord, measured_latency_ms: float) -> SubnetRecord:
    """Return the record with another measurement of its own architecture noted among its finalists, if that one was slower."""
    own = record.architecture.to_dict()
    finalists = tuple(
        {**f, "measured_latency_ms": max(f["measured_latency_ms"], measured_latency_ms)} if f["architecture"] == own else f for f in record.finalists
    )
    return record.changed(finalists=finalists)


def finalists_of(record: SubnetRecord) -> Sequence[Architecture]:
    """Return the finalists' architectures, best first by prediction."""
    return [record.space.architecture(Architecture.from_dict(finalist["architecture"])) for finalist in record.finalists]


def remeasured(
    record: SubnetRecord, device: str, store: Path, report: Callable[[int, int, str], None], session: str, devices_file: Path | None = None
) -> SubnetRecord:
    """Return the record with its best finalist that keeps the budget on a device set up as the prediction's condition says."""
    _refuse_other_device((record.condition or {}).get("device", device), device)
    with connected(device, record.condition or {}, devices_file) as agent:
        return best_kept(with_measured_latencies(record, agent, store, report, session))


def connected(device: str, condition: Mapping[str, Any], devices_file: Path | None = None) -> DeviceAgent:
    """Return the agent of a device, set up as a condition says where the device can be set up so."""
    from device_agents.devices import connect, list_devices, transport_class

    transports = {each.name: each.transport for each in list_devices(devices_file)}
    settings: Sequence[str] = transport_class(transports[device]).setting_names if device in transports else ()
    given = {name: condition[name] for name in ("runtime", "threads", "cores") if name in settings and name in condition}
    return connect(device, devices_file=devices_file, **given)
