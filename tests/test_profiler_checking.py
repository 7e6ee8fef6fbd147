from __future__ import annotations

import json

import pytest

from device_agents.base import Check, DeviceError, Visit
from device_agents.simulated import SimulatedAgent
from profiler.checking import FEWEST_WORKERS, VISITS_OF_RUNNERS, check_repeatability, proved
from profiler.cli.duration import parse_duration_s
from profiler.cli.main import run

pytest.importorskip("onnx")


def test_a_device_of_two_speeds_shows_them_and_needs_more_visits_for_one_percent_than_for_two():
    found = check_repeatability(SimulatedAgent(), minutes=0.2)
    assert found.seconds >= 12 and found.workers >= FEWEST_WORKERS
    assert found.visits == found.workers * 30 * 5
    assert 0.4 < found.slow_share < 0.7  # 80 ms fast, 100 ms slow
    assert found.slow_dwell_s > 0 and found.fast_dwell_s > 0
    assert found.apart_median < 0.01
    assert 3 < found.visits_for_2_percent <= found.visits_for_1_percent <= 30


def test_a_steady_device_needs_few_visits_and_never_changes_its_speed():
    found = check_repeatability(SimulatedAgent(slow_factor=1.0), minutes=0.0)
    assert found.workers == FEWEST_WORKERS
    assert (found.slow_share, found.slow_dwell_s, found.fast_dwell_s) == (0.0, None, None)
    assert found.visits_for_1_percent == 3


class SummaryAgent(SimulatedAgent):
    """The simulated device as a program would time it that is started for each visit, and tells the total of its runs only."""

    runs_chains = False

    def measure(self, models, plans):
        assert all(len(plan.models) == 1 for plan in plans)
        for number, visit in enumerate(super().measure(models, plans)):
            runs = visit.samples_ns.shape[1]
            total_ns = visit.samples_ns.sum(axis=1, keepdims=True)
            yield Visit(visit.plan_id, total_ns, visit.state_before, visit.state_after, f"{visit.worker}-{number}", runs * visit.repeats)


def test_a_device_that_tells_totals_only_is_tested_with_fewer_visits():
    found = check_repeatability(SummaryAgent(slow_factor=1.0, outlier_share=0.0), minutes=0.0)
    assert (found.workers, found.visits) == (FEWEST_WORKERS, FEWEST_WORKERS * VISITS_OF_RUNNERS * 5)
    assert (found.slow_share, found.visits_for_1_percent) == (0.0, 3)
    assert found.apart_worst < 0.005


def test_what_stops_the_steps_of_proving_is_a_step_that_failed():
    class Unplugged(SimulatedAgent):
        def checks(self):
            yield Check("reachable", True, "yes")
            raise DeviceError("the cable\nis out")

    assert list(proved(Unplugged())) == [Check("reachable", True, "yes"), Check("device", False, "the cable is out")]


def test_the_command_shows_what_the_device_is_and_how_it_repeats_itself(capsys):
    assert run(["devices", "--check", "simulated", "--minutes", "0.05", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["device"] == "simulated" and shown["extra"]["preflight"]["timer_floor_ns"] == 1
    assert shown["repeatability"]["visits"] > 0
    assert run(["devices", "--check", "simulated", "--minutes", "0.05"]) == 0
    assert "time in the slow state" in (text := capsys.readouterr().out) and "visits for 1 %" in text
    assert run(["devices", "--check", "simulated", "--minutes", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeatability"] is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5 m", 90)])
def test_durations_are_understood(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-1m", "1d", "1m30s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration '.*' is not understood; expected a number above 0, below a million, and s, m or h"):
        parse_duration_s(text)
