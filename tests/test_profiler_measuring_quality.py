from __future__ import annotations

import numpy as np
import pytest

from profiler.measuring.evidence import Evidence, SeenVisit
from profiler.measuring.quality import relative_half_difference, session_quality


@pytest.fixture
def evidence():
    return Evidence()


def visit(evidence, plan, mode, keys, samples, discarded=None):
    evidence.add(SeenVisit.of_samples(plan, mode, 0, "w", 1, discarded, ({}, {}), keys, np.array(samples, dtype=np.float64)))


def test_halves_that_lie_apart_show_in_the_repeatability(evidence):
    for number in range(8):
        visit(evidence, f"{number}", "alone", ["a"], [[1000, 1000]])
        visit(evidence, f"b{number}", "alone", ["b"], [[1000 if number % 2 else 1100] * 2])
    quality = session_quality(evidence, "alone")
    assert (quality.subjects, quality.visits, quality.fewest_visits) == (2, 16, 8)
    assert quality.repeatability == pytest.approx(np.median([0, 100 / 1050]))
    assert quality.worst_repeatability == pytest.approx(np.percentile([0, 100 / 1050], 95))


def test_the_slow_share_is_that_of_visits_far_above_the_estimate(evidence):
    for number in range(20):
        visit(evidence, f"{number}", "network", ["n"], [[1300 if number < 5 else 1000] * 4])
    assert session_quality(evidence, "network").slow_share == 0.25


def test_a_chain_is_slow_as_a_whole_not_for_one_small_block_in_it(evidence):
    for number in range(10):
        visit(evidence, f"{number}", "chain", ["a", "b"], [[1300 if number < 5 else 1000] * 3, [100_000] * 3])
    assert session_quality(evidence, "chain").slow_share == 0.0


def test_one_visit_repeats_nothing(evidence):
    visit(evidence, "v", "alone", ["a"], [[1000]])
    quality = session_quality(evidence, "alone")
    assert (quality.repeatability, quality.worst_repeatability, quality.fewest_visits) == (None, None, 1)


def test_discarded_visits_and_other_modes_do_not_count(evidence):
    visit(evidence, "v", "alone", ["a"], [[9000]], discarded="throttled")
    visit(evidence, "v", "alone", ["a"], [[1000]])
    visit(evidence, "w", "chain", ["a", "a"], [[9000], [9000]])
    quality = session_quality(evidence, "alone")
    assert (quality.visits, quality.slow_share) == (1, 0.0)


def test_nothing_measured_has_no_quality(evidence):
    assert session_quality(evidence, "chain") is None


def test_the_difference_of_halves_is_relative_to_their_mean():
    assert relative_half_difference((0.9, 1.1)) == pytest.approx(0.2)
    assert relative_half_difference((2.0, 2.0)) == 0.0
