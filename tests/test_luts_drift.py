from __future__ import annotations

import numpy as np
import pytest

from luts.drift import ANOTHER_SPEED, FEWEST_SUBJECTS, Drift, _low, anchor_factors, anchor_levels, undrifted
from luts.store import MeasurementStore
from luts.table import visits_by_subject

LEVELS = {"w0": 1.0, "w1": 1.01, "w2": 1.05, "w3": 1.3}


def visits(levels=LEVELS, subjects=FEWEST_SUBJECTS + 4, held=lambda subject, worker: True, noise=0.0, slow_share=0.0, seed=0):
    """Costs a factor of two apart, each subject visited once by each worker that holds it."""
    rng = np.random.default_rng(seed)
    costs = 1e5 * 2 ** rng.uniform(0, 5, subjects)
    return [
        (f"s{s}", w, cost * level * (1.28 if rng.random() < slow_share else 1.0) * (1 + noise * rng.random()) * np.ones(10))
        for s, cost in enumerate(costs) for w, level in levels.items() if held(s, w)
    ]  # fmt: skip


def test_levels_are_relative_to_the_fastest_worker():
    drift = Drift.of_visits(visits())
    assert drift.levels == pytest.approx(LEVELS)
    assert drift.largest == pytest.approx(0.3)


def test_workers_are_corrected_but_not_one_that_met_another_speed_of_the_machine():
    drift = Drift.of_visits(visits())
    assert drift.reference == pytest.approx(1.0, abs=0.011)
    assert [drift.factor(worker) for worker in LEVELS] == pytest.approx([1 / drift.reference, 1.01 / drift.reference, 1.05 / drift.reference, 1.0])
    assert LEVELS["w3"] > ANOTHER_SPEED


def test_workers_that_hold_different_subjects_are_told_apart_through_those_they_share():
    levels = {f"w{number}": 1 + 0.01 * number for number in range(8)}
    rng = np.random.default_rng(1)
    held = {(s, w) for w in levels for s in rng.permutation(80)[:40].tolist()}
    drift = Drift.of_visits(visits(levels, 80, lambda subject, worker: (subject, worker) in held))
    assert drift.levels == pytest.approx(levels, rel=1e-3)


def test_slow_states_that_part_of_the_visits_met_do_not_count():
    levels = {f"w{number}": 1 + 0.005 * number for number in range(10)}
    drift = Drift.of_visits(visits(levels, 60, noise=0.01, slow_share=0.5))
    assert drift.levels == pytest.approx(levels, abs=0.006)


def test_a_worker_with_few_subjects_that_others_share_is_not_judged():
    few = Drift.of_visits(visits(held=lambda subject, worker: worker != "w2" or subject < FEWEST_SUBJECTS - 1))
    assert set(few.levels) == {"w0", "w1", "w3"} and few.factor("w2") == 1.0
    assert Drift.of_visits(visits(subjects=FEWEST_SUBJECTS - 1)).levels == {}
    assert Drift.of_visits(visits({"w0": 1.05})).levels == {}
    assert Drift.of_visits([]).largest == 0.0
    assert Drift.of_visits(visits()).factor("of another session") == 1.0


def test_as_found_the_middle_of_the_figures_stays_where_the_low_percentile_had_it():
    levels = {f"w{number}": 1 + 0.01 * number for number in range(10)}
    made = visits(levels, 40, noise=0.05)
    drift = Drift.of_visits(made)
    raw, corrected = {}, {}
    for subject, worker, runs in made:
        raw.setdefault(subject, []).append(runs)
        corrected.setdefault(subject, []).append(runs / drift.factor(worker))
    ratios = [_low(np.concatenate(corrected[s])) / _low(np.concatenate(raw[s])) for s in raw]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.003)
    assert drift.reference > 1


def test_what_the_anchor_shows_the_whole_device_slowed_by_is_no_part_of_a_figure():
    levels = {f"w{number}": 1 + 0.01 * number for number in range(10)}
    made = visits(levels, 40, noise=0.01)
    drift = Drift.of_visits(made, levels)
    assert drift.reference == pytest.approx(1.0, abs=0.003)
    anchor = [(number, worker, np.full(4, 1e6 * level)) for number, (worker, level) in enumerate(levels.items()) for _ in range(6)]
    assert anchor_levels(anchor) == pytest.approx({number: 1 + 0.01 * number for number in range(10)})
    assert anchor_factors(anchor) == pytest.approx(levels)
    assert anchor_factors([visit for visit in anchor if visit[0] <= 2]) == {}  # two percent are not told apart
    assert anchor_levels(anchor[:4]) == {}


def test_figures_are_corrected_and_the_stored_samples_stay_raw(tmp_path):
    from luts.records import Subject

    keys = [f"s{number}" for number in range(FEWEST_SUBJECTS)]
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_subjects([Subject(key, "block", "", {}) for key in keys])
        for number, level in ((0, 1.0), (1, 1.05)):
            for key in keys:
                store.add_visit(f"{key}.{number}", "alone", number, [key], np.full((1, 4), round(1e6 * level)), worker=f"w{number}", repeats=2)
        corrected = {
            subject.key: (np.concatenate(runs), workers) for subject, runs, workers in visits_by_subject(undrifted(store.samples("block", "alone")))
        }
        raw = [samples for _, _, samples in store.samples("block", "alone")]
    assert set(corrected) == set(keys)
    for runs, workers in corrected.values():
        assert np.ptp(runs) < 1 and runs[0] == pytest.approx(5e5, rel=0.003) and workers == ["w0", "w1"]
    assert {int(samples[0]) for samples in raw} == {1_000_000, 1_050_000}
