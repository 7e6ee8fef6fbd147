from __future__ import annotations

import sys

import numpy as np
import pytest
from contracts import tiny_table

from luts.table import MissingBlockError, NetworkMeasurement
from predictors.latency import LATENCY_PREDICTORS, create
from predictors.latency.judging import best_of_table, fit_and_judge, judge_left_out, measured_networks
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")


def network(architecture, role: str, latency_ms: float, halves_ms=(np.nan, np.nan)) -> NetworkMeasurement:
    blocks = () if architecture is None or architecture.space != TINY.name else tuple(TINY.blocks(architecture))
    return NetworkMeasurement(architecture, blocks, latency_ms, 0.01, 5, 50, role, halves_ms)


@pytest.fixture
def table():
    """Networks that take 0.5 ms and 1.5 times their blocks' sum; the held-out ones were read 2 % too high and too low in turn."""
    blocks_only = tiny_table(TINY)
    networks = []
    for i, architecture in enumerate(TINY.decode(TINY.sample_different(20, np.random.default_rng(0)))):
        role, reading = ("calibration", 1.0) if i < 12 else ("held_out", 1.02 if i % 2 else 0.98)
        latency_ms = reading * (0.5 + 1.5 * blocks_only.latency_ms(TINY.blocks(architecture)))
        networks.append(network(architecture, role, latency_ms, (0.99 * latency_ms, 1.01 * latency_ms)))
    networks += [network(None, "calibration", 1e3), network(space_of_name("ofa-mobilenetv3-w1.0").smallest(), "held_out", 1e3)]
    return tiny_table(TINY, networks)


def test_all_are_fitted_on_calibration_networks_and_judged_on_held_out_ones(table):
    fitted = fit_and_judge(TINY, table)
    assert list(fitted) == list(LATENCY_PREDICTORS)
    calibrated = fitted["calibrated"]
    assert (calibrated.line.intercept_ms, calibrated.line.slope) == (pytest.approx(0.5), pytest.approx(1.5))
    quality = calibrated.quality
    assert quality.mape_percent == pytest.approx(50 * (0.02 / 1.02 + 0.02 / 0.98))
    assert (quality.within_5_share, quality.calibration_count, quality.held_out_count) == (1.0, 12, 8)
    assert quality.repeatability_percent == pytest.approx(1.0)
    assert fitted["additive"].quality.bias_percent < -30
    others = [fitted[name].quality.mape_percent for name in ("flops_line", "additive")]
    assert 10 * calibrated.quality.mape_percent < min(others)
    assert quality.judged_on == "held-out networks"
    assert quality.interval_width_percent < 0.01 and quality.coverage_share == 0.0  # calibrated without noise, judged with some


def test_networks_of_other_spaces_roles_and_restrictions_are_left_out(table):
    narrow = TINY.restrict({"resolution": [28]})
    whole, inside = measured_networks(TINY, table, "held_out"), measured_networks(narrow, table, "held_out")
    assert len(whole) == 8
    assert 0 < len(inside) < 8
    assert set(inside.population[:, 0].tolist()) == {2}
    assert inside.halves_ms.shape == (len(inside), 2)


def test_without_held_out_networks_there_is_no_quality(table):
    calibration_only = tiny_table(TINY, table.networks("calibration"))
    assert {predictor.quality for predictor in fit_and_judge(TINY, calibration_only).values()} == {None}


def test_networks_can_judge_the_predictor_that_was_fitted_to_the_others(table):
    networks = measured_networks(TINY, table, "held_out")
    predictor = fit_and_judge(TINY, table, ("flops_line",))["flops_line"].fit(networks.population, networks.latencies_ms)
    quality = judge_left_out(predictor, networks)
    left_out = [np.delete(np.arange(8), i) for i in range(8)]
    lines = [create("flops_line", TINY).fit(networks.population[kept], networks.latencies_ms[kept]) for kept in left_out]
    predicted_ms = np.array([line.predict(networks.population[i : i + 1])[0] for i, line in enumerate(lines)])
    assert quality.mape_percent == pytest.approx(100 * np.abs(predicted_ms / networks.latencies_ms - 1).mean())
    assert (quality.judged_on, quality.coverage_share, quality.calibration_count) == ("networks left out one by one", None, 8)
    assert predictor.quality == quality


def test_a_predictor_whose_package_is_missing_is_left_out(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert list(fit_and_judge(TINY, table, ("terms", "gradient_boosting"))) == ["terms"]


def test_a_table_gives_the_chosen_predictor_or_the_plain_sum(table):
    assert best_of_table(TINY, table).name in ("terms", "calibrated")
    assert best_of_table(TINY, tiny_table(TINY)).name == "additive"


def test_without_calibration_networks_it_says_what_to_measure(table):
    with pytest.raises(ValueError, match="no calibration network of space 'ofa-mobilenetv3-tiny'; .*profiler collect --space"):
        fit_and_judge(TINY, tiny_table(TINY, table.networks("held_out")))


def test_missing_blocks_are_not_fitted_around(table):
    narrow = TINY.restrict({"kernel_size": [3]})
    with pytest.raises(MissingBlockError):
        fit_and_judge(TINY, tiny_table(narrow, table.networks()))
