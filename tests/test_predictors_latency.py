from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from contracts import LatencyPredictorContract, tiny_table

from luts.table import LatencyTable, MissingBlockError
from predictors import latency
from predictors.base import NotFittedError
from predictors.folder import PredictorFileError
from predictors.latency.block_costs import boundary_elements, physical_costs
from predictors.latency.block_sums import BlockSums
from predictors.latency.gaussian_process import fit_process
from predictors.latency.least_squares import nonnegative
from predictors.latency.line import Line, fit_line
from predictors.registry import UnknownPredictorError
from supernets import counts
from supernets.blocks import BlockSpec
from supernets.places import AdditiveCost, distinct_blocks
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
POPULATION = TINY.sample_different(40, np.random.default_rng(0))
MACS = AdditiveCost(TINY, counts.block_macs)(POPULATION)
LADDER = ("calibrated", "terms", "gaussian_process")


class TestFlopsLine(LatencyPredictorContract):
    name = "flops_line"


class TestAdditive(LatencyPredictorContract):
    name = "additive"


class TestCalibratedAdditive(LatencyPredictorContract):
    name = "calibrated"


class TestPhysical(LatencyPredictorContract):
    name = "physical"


class TestTerms(LatencyPredictorContract):
    name = "terms"


class TestGaussianProcess(LatencyPredictorContract):
    name = "gaussian_process"


class TestGradientBoosting(LatencyPredictorContract):
    name = "gradient_boosting"

    @pytest.fixture(autouse=True)
    def needs_xgboost(self) -> None:
        pytest.importorskip("xgboost")


# --- the line -----------------------------------------------------------------------------------------------------------


def test_line_recovers_a_known_intercept_and_slope():
    costs = np.array([1.0, 2.0, 4.0, 9.0])
    line = fit_line(costs, 0.5 + 3 * costs, 1.0)
    assert (line.intercept_ms, line.slope) == (pytest.approx(0.5), pytest.approx(3.0))


def test_line_is_the_best_one_in_relative_error():
    rng = np.random.default_rng(1)
    costs = rng.uniform(1, 100, 50)
    latencies_ms = (2 + 0.3 * costs) * rng.normal(1, 0.05, 50)

    def error(line: Line) -> float:
        return float((((line(costs) - latencies_ms) / latencies_ms) ** 2).sum())

    best = fit_line(costs, latencies_ms, 1.0)
    for change in (
        replace(best, intercept_ms=best.intercept_ms * 1.01),
        replace(best, slope=best.slope * 1.01),
        replace(best, slope=best.slope * 0.99),
    ):
        assert error(change) > error(best)


@pytest.mark.parametrize("count", [1, 2])
def test_below_three_networks_only_the_scale_is_fitted(count):
    costs = np.array([2.0, 5.0])[:count]
    line = fit_line(costs, np.array([4.2, 9.8])[:count], 1.0)
    assert line.intercept_ms == 0.0
    assert line.slope == pytest.approx([2.1, (4.2 / 2 + 9.8 / 5) / 2][count - 1], rel=0.01)


def test_networks_of_one_cost_fix_only_the_scale():
    assert fit_line(np.full(5, 2.0), np.full(5, 4.0), 1.0) == Line(0.0, 2.0)


def test_falling_lines_and_lines_below_zero_are_replaced_by_a_scale():
    costs = np.array([10.0, 11.0, 12.0, 13.0])
    assert fit_line(costs, np.array([4.0, 3.0, 2.0, 1.0]), 1.0).intercept_ms == 0.0
    steep = 5 * costs - 45
    assert fit_line(costs, steep, 10.0).intercept_ms == pytest.approx(-45)
    assert fit_line(costs, steep, 5.0).intercept_ms == 0.0


# --- the predictors -----------------------------------------------------------------------------------------------------


def test_flops_line_recovers_milliseconds_a_mac():
    predictor = latency.create("flops_line", TINY).fit(POPULATION, 0.4 + 2e-7 * MACS)
    assert (predictor.line.intercept_ms, predictor.line.slope) == (pytest.approx(0.4), pytest.approx(2e-7))
    assert predictor.condition is None


def test_additive_is_the_sum_of_the_table():
    table = tiny_table(TINY)
    predicted = latency.create("additive", TINY, table).predict(POPULATION)
    for architecture, latency_ms in zip(TINY.decode(POPULATION), predicted, strict=True):
        assert latency_ms == pytest.approx(table.latency_ms(TINY.blocks(architecture)))


def test_calibration_recovers_intercept_and_scale_of_the_sum():
    sums = latency.create("additive", TINY, tiny_table(TINY)).predict(POPULATION)
    predictor = latency.create("calibrated", TINY, tiny_table(TINY)).fit(POPULATION, 0.7 + 0.8 * sums)
    assert (predictor.line.intercept_ms, predictor.line.slope) == (pytest.approx(0.7), pytest.approx(0.8))
    np.testing.assert_allclose(predictor.predict(POPULATION), 0.7 + 0.8 * sums)


def test_terms_find_what_the_sum_alone_does_not_tell():
    terms = latency.create("terms", TINY, tiny_table(TINY))
    boundary = AdditiveCost(TINY, boundary_elements)(POPULATION)
    latencies_ms = 0.2 + 0.8 * latency.create("additive", TINY, tiny_table(TINY)).predict(POPULATION) + 2e-5 * boundary
    errors = {name: latency.create(name, TINY, tiny_table(TINY)).fit(POPULATION, latencies_ms).cross_validation.mape_percent for name in LADDER}
    assert errors["terms"] < errors["calibrated"] / 4
    assert errors["gaussian_process"] <= errors["terms"]
    assert terms.fit(POPULATION, latencies_ms).alone_ms.keys() == terms.entries.keys()


def test_terms_do_without_what_was_not_measured_alone(tmp_path):
    whole = tiny_table(TINY)
    table = LatencyTable(whole.condition, "chain", whole.entries.values(), alone_ms=dict(list(whole.alone_ms.items())[:-1]))
    for name in ("terms", "gaussian_process"):
        predictor = latency.create(name, TINY, table).fit(POPULATION, 0.2 + MACS / 1e6)
        predictor.save(tmp_path / name)
        loaded = latency.load(tmp_path / name)
        assert predictor.alone_ms == loaded.alone_ms == {}
        assert np.array_equal(loaded.predict(POPULATION), predictor.predict(POPULATION))


def test_with_one_network_terms_are_the_scaled_sum():
    fitted = {name: latency.create(name, TINY, tiny_table(TINY)).fit(POPULATION[:1], np.array([3.0])).predict(POPULATION) for name in LADDER}
    np.testing.assert_allclose(fitted["terms"], fitted["calibrated"], rtol=1e-9)
    np.testing.assert_allclose(fitted["gaussian_process"], fitted["calibrated"], rtol=1e-9)


def test_a_process_learns_a_smooth_pattern_and_leaves_noise_alone():
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))

    def pattern(at):
        return 0.05 * np.sin(at[:, 0]) + 0.02 * at[:, 1]

    smooth = fit_process(points, pattern(points) + rng.normal(0, 0.002, 60))(others)
    assert np.abs(smooth - pattern(others)).mean() < 0.25 * np.abs(pattern(others)).mean()
    noise = rng.normal(0, 0.05, 60)
    assert np.abs(fit_process(points, noise)(others)).mean() < 0.5 * np.abs(noise).mean()


def test_few_networks_grow_no_trees():
    pytest.importorskip("xgboost")
    few = {name: latency.create(name, TINY, tiny_table(TINY)).fit(POPULATION[:9], 0.2 + MACS[:9] / 1e6) for name in ("terms", "gradient_boosting")}
    ratio = few["gradient_boosting"].predict(POPULATION) / few["terms"].predict(POPULATION)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_physical_weights_are_recovered_and_never_below_zero():
    weights = {"dense MACs": 3e-8, "depthwise MACs": 0.0, "large depthwise MACs": 2e-7, "activation elements": 1e-7, "gate MACs": 0.0,
               "weights": 0.0, "blocks": 0.01}  # fmt: skip
    costs = BlockSums(TINY, physical_costs)(POPULATION)
    predictor = latency.create("physical", TINY).fit(POPULATION, costs @ np.array(list(weights.values())))
    assert predictor.weights == pytest.approx(weights, abs=1e-12)
    noisy_ms = predictor.predict(POPULATION) * np.random.default_rng(0).lognormal(0, 0.1, len(POPULATION))
    assert min(predictor.fit(POPULATION, noisy_ms).weights.values()) >= 0


def test_physical_costs_by_hand():
    block = BlockSpec("mbconv", 8, 4, 4, mid_channels=16, kernel_size=7, se_channels=2, activation="h_swish", residual=True)
    dense, depthwise, gates = 64 * (4 * 16 + 16 * 4), 64 * 49 * 16, 2 * 16 * 2
    moved = 64 * (4 + 16) + 64 * (16 + 16) + (16 + 2) * 2 + 64 * (16 + 4) + 64 * 4
    assert physical_costs(block) == (dense, depthwise, depthwise, moved, gates, 64 + 49 * 16 + 64 + 64, 1.0)
    assert boundary_elements(block) == 2 * 64 * 4
    assert physical_costs(replace(block, kernel_size=5))[1:3] == (64 * 25 * 16, 0)


@pytest.mark.parametrize("seed", range(20))
def test_nonnegative_least_squares_is_optimal(seed):
    rng = np.random.default_rng(seed)
    columns, latencies_ms = rng.uniform(0, 1, (12, 8)) ** 3, rng.uniform(1, 2, 12)
    weights = nonnegative(columns, latencies_ms)
    gradient = (columns / latencies_ms[:, None]).T @ (1 - columns @ weights / latencies_ms)
    assert (weights >= 0).all()
    assert (gradient <= 1e-8).all() and np.abs(gradient[weights > 0]).max(initial=0) < 1e-8


@pytest.mark.parametrize("name", ["additive", "calibrated"])
def test_missing_rows_are_named_not_summed_around(name):
    whole = tiny_table(TINY)
    gone = distinct_blocks(TINY)[5:9]
    table = LatencyTable(whole.condition, "chain", [entry for entry in whole.entries.values() if entry.block not in gone])
    with pytest.raises(MissingBlockError, match=f"4 of {len(whole.entries)} different blocks .* {gone[0].key}") as caught:
        latency.create(name, TINY, table)
    assert list(caught.value.blocks) == gone


def test_only_the_blocks_of_a_restricted_space_are_needed():
    narrow = TINY.restrict({"resolution": [24], "kernel_size": [3, 5]})
    predictor = latency.create("additive", narrow, tiny_table(narrow))
    assert len(predictor.entries) == len(distinct_blocks(narrow)) < len(distinct_blocks(TINY))
    with pytest.raises(MissingBlockError):
        latency.create("additive", TINY, tiny_table(narrow))


def test_origins_of_the_figures_are_counted_and_saved(tmp_path):
    whole = tiny_table(TINY)
    entries = [replace(entry, origin="interpolated") if i < 3 else entry for i, entry in enumerate(whole.entries.values())]
    predictor = latency.create("additive", TINY, LatencyTable(whole.condition, "alone", entries))
    predictor.save(tmp_path)
    loaded = latency.load(tmp_path)
    assert loaded.origins == predictor.origins == {"interpolated": 3, "measured": len(entries) - 3}
    assert loaded.mode == "alone"


@pytest.mark.parametrize("name", ["additive", "calibrated"])
def test_a_table_is_asked_for(name):
    with pytest.raises(ValueError, match="needs a latency table"):
        latency.create(name, TINY)


@pytest.mark.parametrize("name", ["flops_line", "calibrated", "physical", "terms", "gaussian_process"])
def test_asked_before_fit_it_says_so(name, tmp_path):
    predictor = latency.create(name, TINY, tiny_table(TINY))
    with pytest.raises(NotFittedError, match="was not fitted"):
        predictor.predict(POPULATION)
    with pytest.raises(NotFittedError, match="was not fitted"):
        predictor.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_space_with_blocks_the_saved_predictor_lacks_is_refused(tmp_path):
    latency.create("additive", TINY, tiny_table(TINY)).save(tmp_path)
    path = tmp_path / "predictor.json"
    saved = json.loads(path.read_text())
    saved["settings"]["blocks"][7] = "mbconv-of-another-version"
    path.write_text(json.dumps(saved))
    with pytest.raises(PredictorFileError, match="1 blocks that the saved predictor lacks"):
        latency.load(tmp_path)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UnknownPredictorError, match="unknown latency predictor 'sum'; known: additive, calibrated, flops_line, gaussian_process, "):
        latency.create("sum", TINY)
    assert set(latency.names()) >= set(latency.LATENCY_PREDICTORS)


def test_no_latency_is_below_a_nanosecond_where_a_steep_line_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    line = latency.create("flops_line", TINY).fit(POPULATION, MACS / 1e7)
    steep_ms = MACS / 1e7 - np.median(MACS) / 1e7
    monkeypatch.setattr(line, "_predict", lambda population: steep_ms)
    assert line.predict(POPULATION).tolist() == np.where(steep_ms > 1e-6, steep_ms, 1e-6).tolist()
