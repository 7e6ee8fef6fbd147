from __future__ import annotations

import numpy as np
import pytest

from luts.store import MeasurementStore, Subject
from profiler.measuring.quality import relative_half_difference, session_quality


@pytest.fixture
def store(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_subjects([Subject("a", "block", "", {}), Subject("b", "block", "", {}), Subject("n", "network", "held_out", {})])
        yield store


def visit(store, plan, mode, keys, samples, **options):
    store.add_visit(plan, mode, 0, keys, np.array(samples), **options)


def test_halves_that_lie_apart_show_in_the_repeatability(store):
    for number in range(8):
        visit(store, f"{number}", "alone", ["a"], [[1000, 1000]])
        visit(store, f"b{number}", "alone", ["b"], [[1000 if number % 2 else 1100] * 2])
    quality = session_quality(store, "block", "alone")
    assert (quality.subjects, quality.visits, quality.fewest_visits) == (2, 16, 8)
    assert quality.repeatability == pytest.approx(np.median([0, 100 / 1050]))
    assert quality.worst_repeatability == pytest.approx(np.percentile([0, 100 / 1050], 95))


def test_the_slow_share_is_that_of_visits_far_above_the_estimate(store):
    for number in range(20):
        visit(store, f"{number}", "network", ["n"], [[1300 if number < 5 else 1000] * 4])
    assert session_quality(store, "network", "network").slow_share == 0.25


def test_a_chain_is_slow_as_a_whole_not_for_one_small_block_in_it(store):
    for number in range(10):
        visit(store, f"{number}", "chain", ["a", "b"], [[1300 if number < 5 else 1000] * 3, [100_000] * 3])
    assert session_quality(store, "block", "chain").slow_share == 0.0


def test_doubtful_figures_are_counted(store):
    rng = np.random.default_rng(0)
    for number in range(6):
        visit(store, f"{number}", "chain", ["a", "b"], [[1000] * 3, [int(1000 * (1 + rng.random()))] * 3])
    assert session_quality(store, "block", "chain").unsteady_subjects == 1


def test_one_visit_repeats_nothing(store):
    visit(store, "v", "alone", ["a"], [[1000]])
    quality = session_quality(store, "block", "alone")
    assert (quality.repeatability, quality.worst_repeatability, quality.fewest_visits) == (None, None, 1)


def test_discarded_visits_are_counted_apart(store):
    visit(store, "v", "alone", ["a"], [[9000]], discarded="throttled")
    visit(store, "v", "alone", ["a"], [[1000]])
    quality = session_quality(store, "block", "alone")
    assert (quality.visits, quality.discarded_visits, quality.slow_share) == (1, 1, 0.0)


def test_nothing_measured_has_no_quality(store):
    assert session_quality(store, "block", "chain") is None


def test_the_difference_of_halves_is_relative_to_their_mean():
    assert relative_half_difference((0.9, 1.1)) == pytest.approx(0.2)
    assert relative_half_difference((2.0, 2.0)) == 0.0
