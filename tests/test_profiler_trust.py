"""Every warning of the closed list can be provoked, and none comes without a cause."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from luts.condition import Condition
from luts.records import Outcome, Subject
from luts.store import MeasurementStore
from profiler.caution import Caution
from profiler.measuring.rounds import CollectSummary
from profiler.trust import CHECKS, trust_checks

STATE = {"unix_time_ns": 1, "load_1m": 0.5, "frequency_khz": 2_000_000, "temperature_c": 45.0, "throttled": False, "memory_available_kb": 4_000_000}
DEVICE = {"governor": "performance", "threads": 1, "extra": {"logical_cpus": 2, "preflight": {"timer_floor_ns": 100}}}


class Session:
    """A store of a session without fault: two blocks and the anchor, ten visits each over two rounds."""

    def __init__(self, store: MeasurementStore) -> None:
        self.store = store
        self.device = "local"
        self.preflight: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.visits = 10
        self.factor: Callable[[str, int], float] = lambda key, visit: 1.0
        self.outlier_every = 0
        self.discarded: str | None = None
        self.outcomes = [Outcome("a", "alone", "target", 0.005, 10)]
        self.unix_time_ns: Callable[[int], int] = lambda visit: 1 + visit

    def write(self) -> None:
        self.store.set_condition(Condition(self.device, "onnxruntime", "1", "cpu", 1, (0,), 1, "float32", "test"))
        self.store.add_subjects([Subject(key, "block", "", {}) for key in ("a", "b", "anchor")])
        device = {**DEVICE, **self.info, "extra": {**DEVICE["extra"], "preflight": {**DEVICE["extra"]["preflight"], **self.preflight}}}
        self.store.set_provenance({"sessions": [{"device": device}]})
        rng = np.random.default_rng(0)
        for visit in range(self.visits):
            for key in ("a", "b", "anchor"):
                samples = 1e6 * self.factor(key, visit) * (1 + 0.002 * rng.random(10))
                if self.outlier_every:
                    samples[:: self.outlier_every] *= 3
                state = {**STATE, "unix_time_ns": self.unix_time_ns(visit), **self.state}
                round_number = 2 * visit // self.visits
                options = {"states": (state, state), "worker": f"worker-{round_number}"}
                mode, row = "anchor" if key == "anchor" else "alone", samples.astype(np.int64).reshape(1, -1)
                self.store.add_visit(f"{key}{visit}", mode, round_number, [key], row, **options)
                if self.discarded and not visit:
                    self.store.add_visit(f"{key}{visit}", mode, 0, [key], row, discarded=self.discarded, **options)
        self.store.set_outcomes(self.outcomes)


@pytest.fixture
def session(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        yield Session(store)


def warned(session: Session) -> dict[Caution, str]:
    session.write()
    return {check.caution: check.text for check in trust_checks(session.store) if check.caution is not None}


def with_(**changes: Any) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        for name, value in changes.items():
            setattr(session, name, value)

    return change


PROVOCATIONS: dict[Caution, tuple[Callable[[Session], None], str]] = {
    Caution.DRIFT: (
        with_(factor=lambda key, visit: 1.04 if visit >= 5 else 1.0),
        r"the anchor block up to 4\.0% in some of 2 rounds; figures are corrected",
    ),
    Caution.UNCONVERGED: (
        with_(outcomes=[Outcome("a", "alone", "time cap", 0.043, 10), Outcome("b", "alone", "target", 0.01, 10)]),
        r"^1 of 2 blocks measured alone are not known to 2%, the worst to 4\.3% \(time cap ended them\); collect on with --time-budget",
    ),
    Caution.FEW_VISITS: (with_(visits=4), r"^2 blocks measured alone: only 4 visits of some, expected 8; collect on"),
    Caution.POOR_REPEATABILITY: (
        with_(factor=lambda key, visit: 1.04 if visit % 2 and key != "anchor" else 1.0),
        r"two halves of the visits differ by [34]\.\d% \(median\), expected 2%",
    ),
    Caution.SLOW_STATE: (
        with_(visits=40, factor=lambda key, visit: 1.0 if visit in (0, 1, 2, 20, 21, 23) else 1.3),
        "85% of the visits met the device in a slow",
    ),
    Caution.BIMODAL: (
        with_(factor=lambda key, visit: 1.2 if key == "b" and visit % 2 else 1.0),
        r"^1 of 2 blocks measured alone have a second mode of their own, more than 5% slower, in 50% of their runs",
    ),
    Caution.OUTLIERS: (with_(outlier_every=10), r"^2 blocks measured alone: 10\.0% of the runs are outliers, expected 3% at most; all are kept"),
    Caution.DISCARDED: (with_(discarded="too hot"), r"^3 visits were made again because the device was too hot \(3\); cool it"),
    Caution.CLOCK_CAPPED: (
        with_(preflight={"clock_limits_khz": [None, 1_500_000], "clock_maxima_khz": [None, 2_000_000]}),
        "capped at 1500000 of 2000000 kHz from the start",
    ),
    Caution.SMALL_BLOCKS: (with_(preflight={"timer_floor_ns": 50_000}), r"^2 of 2 blocks measured alone take less than 50 times .* \(50000 ns\)"),
    Caution.BUSY: (with_(state={"load_1m": 3.5}), r"^the load was 3\.5 before half of the visits, on 2 processors; stop other work"),
    Caution.LOW_MEMORY: (with_(state={"memory_available_kb": 50 * 1024}), "^only 50 MB of memory were left"),
    Caution.HOT: (with_(state={"temperature_c": 84.6}), "^the processor reached 85 °C; cool the device"),
    Caution.ON_BATTERY: (with_(preflight={"battery_status": "Discharging", "battery_percent": 40}), r"ran on its battery \(40 %\); plug it in"),
    Caution.UNKNOWN_CLOCK: (with_(info={"governor": None}, state={"frequency_khz": None}), "^the device does not tell its governor and clock"),
    Caution.CLOCK_STEPPED: (with_(unix_time_ns=lambda visit: 1 if visit == 3 else 1 + visit), "^the device's clock was set back 1 times"),
    Caution.SIMULATED: (with_(device="simulated"), "^the device is simulated"),
}  # fmt: skip


def test_a_session_without_fault_warns_of_nothing_and_says_what_was_checked(session):
    assert warned(session) == {}
    passed = [check.text for check in trust_checks(session.store) if check.passed]
    assert passed[0] == "2 blocks measured alone: at least 10 visits each"
    assert len(passed) == 3


@pytest.mark.parametrize("caution", Caution, ids=lambda caution: caution.code)
def test_every_warning_can_be_provoked_alone(session, caution):
    assert caution in PROVOCATIONS, "a new warning needs a provocation here"
    provoke, words = PROVOCATIONS[caution]
    provoke(session)
    found = warned(session)
    assert re.search(words, found[caution]), found[caution]
    assert set(found) <= {caution, Caution.POOR_REPEATABILITY if caution is Caution.BIMODAL else caution}


def test_every_warning_has_a_check_a_remedy_and_a_code_of_its_own():
    assert set(CHECKS) == set(Caution)
    assert len({caution.code for caution in Caution}) == len(Caution)
    assert all(len(caution.value) == 2 and all(caution.value) for caution in Caution)


def test_warnings_are_stored_with_their_numbers(session):
    session.state = {"temperature_c": 84.6}
    session.write()
    (check,) = [check for check in trust_checks(session.store) if not check.passed]
    session.store.set_warnings([check.stored(17.0)])
    (stored,) = session.store.warnings()
    assert (stored.code, stored.numbers, stored.text, stored.unix_time_s) == ("hot", {"hottest_c": 84.6}, check.text, 17.0)


def test_numbers_of_all_warnings_are_json(session):
    for provoke, _ in PROVOCATIONS.values():
        provoke(session)
    session.write()
    assert json.dumps([check.numbers for check in trust_checks(session.store)])


def test_an_interrupted_collection_is_not_complete():
    assert not CollectSummary(1, 0, 0, 3, 0.0, "").complete


def test_some_subjects_are_judged_by_their_own_visits_and_told_what_can_be_done_for_them(session):
    session.visits = 4
    session.outcomes = [Outcome("a", "alone", "rounds", 0.043, 4), Outcome("b", "alone", "rounds", 0.05, 4)]
    session.discarded = "too hot"
    session.write()
    found = {check.caution: check for check in trust_checks(session.store, keys={"a"}) if not check.passed}
    assert found[Caution.UNCONVERGED].text == (
        "1 of 1 blocks measured alone are not known to 2%, the worst to 4.3% (rounds ended them); "
        "let the device rest, stop other work on it, and measure anew"
    )
    assert found[Caution.DISCARDED].told == (
        "warning (discarded): 1 visits were made again because the device was too hot (1); cool it, power it well, and leave its clock alone"
    )
    assert [check for check in trust_checks(session.store, keys=set()) if not check.passed] == []
