"""How good a predictor is, told with what it must be compared to: the baseline in MACs, and how well the measurement repeats itself.

Shares and accuracies are 0 to 1, `percent` is a relative error, `points` are percentage points of accuracy. None = undefined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np

from predictors import metrics
from predictors.line import least_squares_line
from predictors.metrics import Bits
from predictors.population import Numbers
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.space import Population, SearchSpace, Value

Quality = TypeVar("Quality")


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else float(figure)


def _checked_fields(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = [f.name for f in fields(cls)]
    strange = sorted((set(values) ^ set(names)) - {f.name for f in fields(cls) if f.default is not MISSING and f.name not in values})
    if strange:
        raise ValueError(f"field {strange[0]!r} of a {cls.__name__} is unknown or missing; its fields are {', '.join(names)}")
    return dict(values)


@dataclass(frozen=True)
class LatencyQuality:
    """Errors of predicted latencies on networks that the predictor was not fitted on; `judged_on` says which those are.

    `coverage_share` is the share of them inside the predictor's 90 % intervals, `interval_width_percent` the mean width of
    these intervals over the prediction; None where the predictor gave none.

    `repeatability_percent` is the MAPE that a perfect predictor would still show: half the mean difference between the
    estimates of the even and of the odd visits. `repeatability_kendall` is the rank correlation of these two.
    """

    mape_percent: float
    bias_percent: float
    within_5_share: float
    within_10_share: float
    worst_percent: float
    spearman: float | None
    kendall: float | None
    calibration_count: int
    held_out_count: int
    repeatability_percent: float | None
    repeatability_kendall: float | None
    coverage_share: float | None = None
    interval_width_percent: float | None = None
    judged_on: str = "held-out networks"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatencyQuality:
        """Return the quality that `to_dict` described.

        Raises:
            ValueError: a field is unknown or missing.
        """
        return cls(**_checked_fields(cls, values))


def judge_latencies(
    predicted_ms: Numbers, measured_ms: Numbers, calibration_count: int, halves_ms: Numbers | None = None,
    interval_ms: tuple[Numbers, Numbers] | None = None, judged_on: str = "held-out networks",
) -> LatencyQuality:  # fmt: skip
    """Return the quality of predictions for networks not fitted on; `halves_ms` is (n, 2), NaN rows where a half is unknown.

    Raises:
        ValueError: there are no networks, or the arrays do not match.
    """
    predicted_ms, measured_ms = np.asarray(predicted_ms, dtype=np.float64), np.asarray(measured_ms, dtype=np.float64)
    if predicted_ms.shape != measured_ms.shape or predicted_ms.ndim != 1 or not len(measured_ms):
        raise ValueError(
            f"predicted and measured latencies have the shapes {predicted_ms.shape} and {measured_ms.shape}; expected one each, at least one"
        )
    halves = np.empty((0, 2)) if halves_ms is None else np.asarray(halves_ms, dtype=np.float64)
    if halves_ms is not None and halves.shape != (len(measured_ms), 2):
        raise ValueError(f"halves_ms has the shape {halves.shape}; expected ({len(measured_ms)}, 2)")
    halves = halves[np.isfinite(halves).all(axis=1)]
    repeatability = 50.0 * float((np.abs(halves[:, 0] - halves[:, 1]) / halves.mean(axis=1)).mean()) if len(halves) else math.nan
    covered = width_percent = None
    if interval_ms is not None:
        lower_ms, upper_ms = interval_ms
        covered = float(((lower_ms <= measured_ms) & (measured_ms <= upper_ms)).mean())
        width_percent = 100 * float(((upper_ms - lower_ms) / predicted_ms).mean())
    return LatencyQuality(
        mape_percent=metrics.mape_percent(predicted_ms, measured_ms),
        bias_percent=metrics.bias_percent(predicted_ms, measured_ms),
        within_5_share=metrics.within_share(predicted_ms, measured_ms, 5.0),
        within_10_share=metrics.within_share(predicted_ms, measured_ms, 10.0),
        worst_percent=metrics.worst_percent(predicted_ms, measured_ms),
        spearman=_known(metrics.spearman(predicted_ms, measured_ms)),
        kendall=_known(metrics.kendall(predicted_ms, measured_ms)),
        calibration_count=calibration_count,
        held_out_count=len(measured_ms),
        repeatability_percent=_known(repeatability),
        repeatability_kendall=_known(metrics.kendall(halves[:, 0], halves[:, 1])),
        coverage_share=covered,
        interval_width_percent=width_percent,
        judged_on=judged_on,
    )


@dataclass(frozen=True)
class SamplePoint:
    """Quality after training on the first `count` networks of the training set."""

    count: int
    rmse_points: float
    kendall: float | None


@dataclass(frozen=True)
class AccuracyQuality:
    """Errors of predicted accuracies on networks that the predictor was not trained on.

    `kendall_by_value` holds the rank correlation inside each value of the choice `group` (the resolution carries most of the
    spread of a space, so the overall figure alone flatters), `kendall_within` their mean. `macs_*` is what a line in MACs
    reaches, fitted on the same training set, `log_macs_rmse_points` one in their logarithm. The reliability says how far
    the labels repeat themselves (1 = no noise), `label_noise_points` the RMSE that a perfect predictor would still show.
    """

    rmse_points: float
    kendall: float | None
    group: str | None
    kendall_within: float | None
    kendall_by_value: tuple[tuple[Value, float | None], ...]
    label_std_points: float  # RMSE of predicting the mean
    macs_kendall: float | None
    macs_kendall_within: float | None
    macs_rmse_points: float
    log_macs_rmse_points: float
    label_reliability: float | None
    label_reliability_within: float | None
    label_noise_points: float | None
    training_count: int
    test_count: int
    sample_curve: tuple[SamplePoint, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {
            **asdict(self),
            "kendall_by_value": [list(pair) for pair in self.kendall_by_value],
            "sample_curve": [asdict(p) for p in self.sample_curve],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AccuracyQuality:
        """Return the quality that `to_dict` described.

        Raises:
            ValueError: a field is unknown or missing.
        """
        checked = _checked_fields(cls, values)
        checked["kendall_by_value"] = tuple((value, figure) for value, figure in checked["kendall_by_value"])
        checked["sample_curve"] = tuple(SamplePoint(**_checked_fields(SamplePoint, point)) for point in checked["sample_curve"])
        return cls(**checked)


@dataclass(frozen=True)
class LabelledPopulation:
    """Architectures with their measured accuracies (0 to 1) and, where known, which images each got right (n, images)."""

    population: Population
    accuracies: Numbers
    hits: Bits | None = None

    def __getitem__(self, rows: Any) -> LabelledPopulation:
        return LabelledPopulation(self.population[rows], self.accuracies[rows], None if self.hits is None else self.hits[rows])

    def __len__(self) -> int:
        return len(self.population)


def judge_accuracies(
    space: SearchSpace, predicted: Numbers, test: LabelledPopulation, training: LabelledPopulation, *,
    group_kind: str = "resolution", sample_curve: Sequence[SamplePoint] = (),
) -> AccuracyQuality:  # fmt: skip
    """Return the quality of predictions for the test set; the baselines in MACs are fitted on the training set.

    Raises:
        ValueError: there are no test architectures, or not one prediction for each.
    """
    if not len(test) or np.shape(predicted) != (len(test),):
        raise ValueError(f"predictions have the shape {np.shape(predicted)} for {len(test)} test architectures; expected one each, at least one")
    column, groups = _groups(space, test.population, group_kind)
    by_group = metrics.kendall_within(predicted, test.accuracies, groups) if groups is not None else {}
    macs = AdditiveCost(space, block_macs)
    train_macs, test_macs = macs(training.population), macs(test.population)
    macs_by_group = metrics.kendall_within(test_macs, test.accuracies, groups) if groups is not None else {}
    return AccuracyQuality(
        rmse_points=100 * metrics.rmse(predicted, test.accuracies),
        kendall=_known(metrics.kendall(predicted, test.accuracies)),
        group=None if column is None else space.choices[column].name,
        kendall_within=_mean_known(by_group),
        kendall_by_value=tuple((space.choices[column].values[code], _known(tau)) for code, tau in by_group.items()) if column is not None else (),
        label_std_points=100 * float(test.accuracies.std()),
        macs_kendall=_known(metrics.kendall(test_macs, test.accuracies)),
        macs_kendall_within=_mean_known(macs_by_group),
        macs_rmse_points=100 * _line_rmse(train_macs, training.accuracies, test_macs, test.accuracies),
        log_macs_rmse_points=100 * _line_rmse(np.log(train_macs), training.accuracies, np.log(test_macs), test.accuracies),
        **_label_figures(test, groups),
        training_count=len(training),
        test_count=len(test),
        sample_curve=tuple(sample_curve),
    )


def _groups(space: SearchSpace, population: Population, kind: str) -> tuple[int | None, np.ndarray[Any, np.dtype[np.int8]] | None]:
    """Return the column of the space's only choice of this kind, and its codes; None where there is no such choice or several."""
    columns = [column for column, choice in enumerate(space.choices) if choice.kind == kind]
    return (columns[0], population[:, columns[0]]) if len(columns) == 1 else (None, None)


def _mean_known(by_group: Mapping[Any, float]) -> float | None:
    known = [tau for tau in by_group.values() if not math.isnan(tau)]
    return sum(known) / len(known) if known else None


def _line_rmse(x: Numbers, y: Numbers, test_x: Numbers, test_y: Numbers) -> float:
    """Return the RMSE of the least-squares line through (x, y) on the test points."""
    intercept, slope = least_squares_line(x, y, np.ones(len(x)))
    return metrics.rmse(intercept + slope * test_x, test_y)


def _label_figures(test: LabelledPopulation, groups: np.ndarray[Any, Any] | None) -> dict[str, float | None]:
    if test.hits is None or len(test) < 3:
        return {"label_reliability": None, "label_reliability_within": None, "label_noise_points": None}
    reliability = metrics.split_half_reliability(test.hits)
    within = metrics.split_half_reliability(test.hits, groups) if groups is not None else math.nan
    noise = 100 * float(test.accuracies.std()) * math.sqrt(min(1.0, max(0.0, 1.0 - reliability)))
    return {"label_reliability": _known(reliability), "label_reliability_within": _known(within), "label_noise_points": _known(noise)}
