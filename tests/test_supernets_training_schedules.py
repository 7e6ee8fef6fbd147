from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

from supernets.training import schedules
from supernets.training.phases import Phase

pytestmark = pytest.mark.torch


def test_the_decay_is_that_of_the_paper_and_its_floor_begins_at_epoch_236():
    assert schedules.floor_epoch() == pytest.approx(236.05, abs=0.005)
    assert [schedules.exponential(epoch) for epoch in (0, 2.4, 24)] == pytest.approx([1, 0.97, 0.97**10])
    assert schedules.exponential(236.0) > 0.05
    assert schedules.exponential(236.05) == schedules.exponential(300) == 0.05


def test_a_phase_of_exponential_decay_ends_constant():
    phase = Phase("sandwich", 360, 0.256, schedule="exponential")
    steps_per_epoch = 20  # steps of a twentieth of an epoch: 236.05 is one of them
    rates = [phase.learning_rate_at(step, steps_per_epoch) for step in range(phase.steps(steps_per_epoch))]
    assert rates[0] == 0.256
    assert rates[24 * 20] == pytest.approx(0.256 * 0.97**10)
    constant = [step for step, rate in enumerate(rates) if rate == pytest.approx(0.05 * 0.256, rel=1e-12)]
    assert constant == list(range(math.ceil(schedules.floor_epoch() * 20), len(rates)))
    assert constant[0] / steps_per_epoch == pytest.approx(236.05, abs=0.051)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_comes_before_either_schedule():
    for schedule in schedules.SCHEDULES:
        assert [schedules.factor(schedule, step, 3, 100, 10) for step in range(3)] == [0.25, 0.5, 0.75]
    assert schedules.factor("cosine", 3, 3, 103, 10) == 1.0
    assert schedules.factor("cosine", 53, 3, 103, 10) == pytest.approx(0.5)
    assert schedules.factor("exponential", 24, 3, 100, 10) == pytest.approx(0.97), "epochs count from the phase's beginning"


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule of phase 'p' is 'step'; expected one of cosine, exponential"):
        Phase("p", 1, 0.1, schedule="step")
