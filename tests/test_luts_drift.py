from __future__ import annotations

import numpy as np
import pytest

from luts.drift import Drift, drift_of
from luts.records import Subject, VisitRecord
from luts.store import MeasurementStore
from luts.table import visits_by_subject

LEVELS = {0: 1.0, 1: 1.01, 2: 1.05, 3: 1.3}


def anchor(levels=LEVELS, visits=6):
    return [(number, f"w{number}", np.full(4, 1e6 * level)) for number, level in levels.items() for _ in range(visits)]


def test_levels_are_relative_to_the_fastest_round():
    drift = Drift.of_anchor(anchor())
    assert drift.levels == pytest.approx(LEVELS)
    assert drift.largest == pytest.approx(0.3)


def test_a_session_that_drifted_is_corrected_round_by_round_but_not_where_the_machine_ran_at_another_speed():
    drift = Drift.of_anchor(anchor())
    assert drift.corrected == {1: pytest.approx(1.01), 2: pytest.approx(1.05)}
    assert [drift.factor(f"w{number}") for number in LEVELS] == pytest.approx([1.0, 1.01, 1.05, 1.0])


@pytest.mark.parametrize("levels", [{0: 1.0, 1: 1.015}, {0: 1.0, 1: 1.015, 2: 1.3}])
def test_a_drift_within_two_percent_is_left_alone(levels):
    assert Drift.of_anchor(anchor(levels)).corrected == {}


def test_workers_that_never_visited_the_anchor_are_not_corrected_even_in_a_round_of_that_number():
    assert Drift.of_anchor(anchor()).factor("of a verification in round 2") == 1.0


def test_too_few_visits_of_the_anchor_say_nothing():
    assert Drift.of_anchor(anchor({0: 1.0, 1: 1.05}, visits=4)).levels == {}
    assert Drift.of_anchor([]).largest == 0.0


def test_figures_are_corrected_and_the_stored_samples_stay_raw(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_subjects([Subject("a", "block", "", {}), Subject("b", "block", "", {})])
        for number, level in ((0, 1.0), (1, 1.05)):
            for visit in range(6):
                row = np.full((1, 4), round(1e6 * level))
                store.add_visit(f"anchor{number}.{visit}", "anchor", number, ["a"], row, worker=f"w{number}", repeats=2)
                store.add_visit(f"b{number}.{visit}", "alone", number, ["b"], 3 * row, worker=f"w{number}", repeats=2)
        drift = drift_of(store.samples("block", "anchor"))
        ((_, visits),) = visits_by_subject(drift.undrifted(store.samples("block", "alone")))
        raw = [samples for _, _, samples in store.samples("block", "alone")]
    assert np.concatenate(visits) == pytest.approx(np.full(48, 1.5e6))
    assert {int(samples[0]) for samples in raw} == {3_000_000, 3_150_000}


def test_a_visit_record_says_how_often_its_calls_ran():
    visit = VisitRecord(1, "p", "anchor", 0, "w", None, {}, {}, 10)
    drift = drift_of([(Subject("a", "block", "", {}), visit, np.full(4, 1000))] * 5)
    assert drift.rounds == {"w": 0}
