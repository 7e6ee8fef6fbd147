"""`profiler collect` on a phone that something happens to meanwhile: a real adbd, and what a phone, its runner and its cable can do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collecting import Collecting, once
from device_runs import declare, measure_little
from real_adbd import RealAdbd, real_adbd
from real_phone import FAULTS, QUICK, RealPhone

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(600)]

ALONE = ("alone",)
PULLS = 12


@pytest.fixture(scope="module")
def adbd() -> Iterator[RealAdbd]:
    with real_adbd() as running:
        yield running


@pytest.fixture
def phone(adbd: RealAdbd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealPhone]:
    """Give a phone with a runner on it, which a devices.toml calls `phone`; nothing else may be left on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "9")  # of the discard service, which nobody runs
    measure_little(monkeypatch)
    played = RealPhone(adbd, tmp_path)
    settings = {"transport": "adb", "address": f"tcp:{adbd.serial}", "key": str(adbd.key), "runner": played.counting_runner(FAULTS), **QUICK}
    declare(tmp_path, phone={**settings, "timeout_s": 2})
    yield played
    played.mend()
    played.assert_left_empty()


@pytest.fixture
def collecting(phone: RealPhone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Collecting:
    return Collecting(capsys, "phone", tmp_path / "phone.lut", ALONE)


def test_each_fault_of_the_runner_is_one_line_and_the_table_is_whole_in_the_end(phone: RealPhone, collecting: Collecting) -> None:
    for fault, said in (
        ("_crash", "was ended by SIGABRT"),
        ("_exit3", "ended with exit code 3"),
        ("_rubbish", "output is "),
        ("_truncated", "output is cut off after"),
        ("_noisy", "was ended by SIGXFSZ"),
        ("_zero", "timed the model at 0 us"),
        ("_old", "ignored the flags '--use_xnnpack=true'"),
        ("_fallback", "runs none of it"),
        ("_hang", "did not end within 2 s and was ended"),
        ("_other", "is for another machine"),
        ("_missing", "set `runner` of"),
    ):
        phone.fails(fault, after=3)
        collecting.is_stopped(said, least=3)
        phone.assert_left_empty()
    phone.fails("")
    collecting.is_done(runtime="benchmark_model")


def test_a_runner_of_an_older_format_fills_a_table(phone: RealPhone, collecting: Collecting) -> None:
    phone.fails("_old")
    collecting.words = ("--delegate", "builtin")
    collecting.is_done(delegate="builtin")


def test_a_cable_that_is_pulled_again_and_again_costs_nothing(phone: RealPhone, collecting: Collecting) -> None:
    rng, ended, pulled = random.Random(5), threading.Event(), []

    def pull() -> None:
        while len(pulled) < PULLS and not ended.wait(rng.uniform(0.05, 1.0)):
            phone.adbd.relay.reset()
            pulled.append(phone.starts)

    pulling = threading.Thread(target=pull, daemon=True)
    pulling.start()
    try:
        collecting.words = ("--set", "least_s=0.03")
        made = collecting.is_done()
    finally:
        ended.set()
        pulling.join()
    assert sum(0 < starts < len(made) for starts in pulled) >= 2, "some of them came while the phone measured"
    assert phone.starts == len(made), "each visit is one start of the runner"


def test_a_cable_that_stays_out_is_one_line_and_plugged_in_it_goes_on(
    phone: RealPhone, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RECONNECT_PAUSES_S", (0.1, 0.2)), ("CLOSING_PAUSES_S", (0.1,)), ("KEEPER_LOOKS_EVERY_S", 1)):
        monkeypatch.setattr(f"device_agents.android.session.{name}", value)
    with once(lambda: phone.starts >= 12, phone.adbd.relay.cut):
        collecting.is_stopped("; check ")
    phone.adbd.relay.mend()
    collecting.is_done()


def test_a_key_that_is_revoked_meanwhile_is_one_line_and_accepted_again_it_goes_on(
    phone: RealPhone, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    tcp = "device_agents.android.adb_shell_transport.AdbShellTransport.tcp"
    monkeypatch.setattr(f"{tcp}.__func__.__defaults__", (None, 1.0))  # seconds for a person to accept the key
    with once(lambda: phone.starts >= 12, phone.adbd.revoke_keys):
        collecting.is_stopped("does not accept the key", least=8)
    phone.adbd.authorise()
    collecting.is_done()


def test_a_disk_that_is_full_or_fills_up_is_one_line_and_with_space_it_goes_on(phone: RealPhone, collecting: Collecting) -> None:
    phone.adbd.fill_disk(leaving_bytes=300_000)
    collecting.is_stopped("has no space left")
    phone.adbd.free_disk()
    starts = phone.starts
    with once(lambda: phone.starts >= starts + 12, phone.adbd.fill_disk):
        collecting.is_stopped("has no space left", least=1)
    phone.adbd.free_disk()
    collecting.is_done()


def test_a_battery_that_is_low_or_runs_low_is_one_line_and_charged_it_goes_on(phone: RealPhone, collecting: Collecting) -> None:
    phone.says(level=19)
    collecting.is_stopped("the battery of device 'phone' is at 19 %, below 20 %; charge it")
    phone.says(level=80)
    with once(lambda: phone.starts >= 3, lambda: phone.says(level=12)):
        collecting.is_stopped("is at 12 %, below 20 %", least=8)
    phone.says(level=100)
    collecting.is_done()


def test_a_thermal_status_that_rises_is_waited_for(phone: RealPhone, collecting: Collecting) -> None:
    begin_s = time.monotonic()
    with once(lambda: phone.starts >= 3, lambda: phone.says(thermal=2)), once(lambda: collecting.discarded >= 2, lambda: phone.says(thermal=0)):
        collecting.is_done()
    assert time.monotonic() - begin_s > 1 + 2, "the pauses"


def test_a_thermal_status_that_stays_high_is_one_line_and_cooled_it_goes_on(
    phone: RealPhone, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.measuring.rounds.LONGEST_PAUSE_S", 0.01)
    phone.says(thermal=3)
    collecting.is_stopped("throttled in 9 visits in a row")
    phone.says(thermal=0)
    collecting.is_done()


def test_a_clock_that_steps_changes_neither_what_is_measured_nor_its_order(phone: RealPhone, collecting: Collecting) -> None:
    def steps() -> None:
        phone.adbd.install("date", "#!/system/bin/sh\necho 1000000000000000000\n")  # the year 2001

    try:
        with once(lambda: phone.starts >= 12, steps):
            collecting.is_done()
    finally:
        (phone.adbd.system_bin / "date").unlink()
        (phone.adbd.system_bin / "date").symlink_to("toybox")
    moments = collecting.moments()
    assert max(moments) - min(moments) > 10 * 365 * 86400e9 and moments != sorted(moments), "the clock did step"


def test_a_phone_that_restarts_is_one_visit_made_again(phone: RealPhone, collecting: Collecting) -> None:
    collecting.words = ("--set", "least_s=0.03")
    with once(lambda: phone.starts >= 12, phone.adbd.reboot):
        made = collecting.is_done()
    assert phone.starts <= len(made) + 1
