from __future__ import annotations

import numpy as np
import pytest
from contracts import tiny_table

from predictors import latency
from predictors.cross_validation import CrossValidation
from predictors.latency.choosing import FEWEST_NETWORKS, choose, networks_to_add
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")


def predictors(**log_ratios):
    """Return name → predictor with these errors, one a network."""
    made = {name: latency.create(name, TINY, tiny_table(TINY)) for name in log_ratios}
    for name, errors in log_ratios.items():
        made[name].cross_validation = CrossValidation(np.array([errors]))
    return made


def test_the_preferred_predictor_stays_while_it_is_as_good_as_the_best():
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.02, 24)
    assert choose(predictors(calibrated=errors, terms=errors * np.tile([0.6, 1.45], 12), gaussian_process=errors)) == "terms"


def test_a_predictor_that_is_clearly_better_is_taken():
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.02, 24)
    assert choose(predictors(terms=errors, gaussian_process=0.6 * errors)) == "gaussian_process"
    assert choose(predictors(terms=errors, physical=0.2 * errors, flops_line=0.3 * errors)) == "physical"


def test_differences_are_taken_network_by_network():
    shared = np.linspace(0.01, 0.2, 12)  # far larger than what tells the two apart
    assert choose(predictors(terms=shared + 0.002, calibrated=shared)) == "calibrated"


def test_without_errors_preference_decides():
    made = {name: latency.create(name, TINY, tiny_table(TINY)) for name in ("flops_line", "physical", "calibrated")}
    assert choose(made) == "calibrated"
    del made["calibrated"]
    assert choose(made) == "physical"


def test_predictors_from_elsewhere_come_last():
    made = predictors(flops_line=np.full(5, 0.01))
    assert choose({"my_own": made["flops_line"], **made}) == "flops_line"


@pytest.mark.parametrize(("networks", "missing"), [(2, FEWEST_NETWORKS - 2), (3, FEWEST_NETWORKS - 3)])
def test_very_few_networks_are_never_enough(networks, missing):
    assert networks_to_add(predictors(terms=np.full(networks, 0.01))["terms"]) == missing
    assert networks_to_add(latency.create("terms", TINY, tiny_table(TINY))) == FEWEST_NETWORKS


def test_networks_are_asked_for_until_the_mean_error_is_known():
    rng = np.random.default_rng(1)
    counts = []
    for networks in (10, 40, 400):
        predictor = predictors(terms=rng.normal(0, 0.03, networks))["terms"]
        more = networks_to_add(predictor, 0.5)
        assert (more == 0) == (predictor.cross_validation.mape_half_width_percent() <= 0.5)
        counts.append(networks + more)
    assert counts[0] > 15 and counts[2] == 400
    assert networks_to_add(predictor, 0.01) > 1000
