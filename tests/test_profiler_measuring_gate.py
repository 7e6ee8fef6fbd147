from __future__ import annotations

import pytest

from profiler.measuring.gate import CLOCKED_LOW, FEWEST_READINGS, THROTTLED, TOO_HOT, Gate

GOOD = {"throttled": False, "temperature_c": 50.0, "frequency_khz": 2_000_000}
UNKNOWN = {"throttled": None, "temperature_c": None, "frequency_khz": None}


@pytest.fixture
def gate():
    gate = Gate(hottest_c=90)
    assert [gate.reason_against(GOOD, GOOD) for _ in range(FEWEST_READINGS)] == [None] * FEWEST_READINGS
    return gate


@pytest.mark.parametrize(
    ("change", "reason"), [({"throttled": True}, THROTTLED), ({"temperature_c": 90.5}, TOO_HOT), ({"frequency_khz": 1_890_000}, CLOCKED_LOW)]
)
def test_a_device_that_is_not_itself_after_a_visit_has_not_made_it(gate, change, reason):
    assert gate.reason_against(GOOD, {**GOOD, **change}) == reason
    assert gate.reason_against(GOOD, GOOD) is None


def test_heat_and_throttling_count_before_a_visit_too_and_an_idle_clock_does_not(gate):
    assert gate.reason_against({**GOOD, "throttled": True}, GOOD) == THROTTLED
    assert gate.reason_against({**GOOD, "temperature_c": 91.0}, GOOD) == TOO_HOT
    assert gate.reason_against({**GOOD, "frequency_khz": 400_000}, GOOD) is None


def test_small_changes_of_the_clock_pass(gate):
    assert gate.reason_against(GOOD, {**GOOD, "frequency_khz": 1_910_000}) is None
    assert gate.reason_against(GOOD, {**GOOD, "frequency_khz": 2_500_000}) is None


def test_a_clock_is_judged_only_once_the_session_s_own_is_known_and_follows_it():
    gate = Gate(hottest_c=90)
    assert gate.reason_against(GOOD, GOOD) is None
    slower = {**GOOD, "frequency_khz": 1_500_000}
    reasons = [gate.reason_against(slower, slower) for _ in range(3 * FEWEST_READINGS)]
    assert set(reasons) == {None}


def test_what_the_device_does_not_tell_counts_for_nothing():
    gate = Gate(hottest_c=90)
    assert {gate.reason_against(UNKNOWN, UNKNOWN) for _ in range(20)} == {None}
