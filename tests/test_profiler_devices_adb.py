"""The commands on a phone that a real adbd plays, with the native stand-in for benchmark_model: check, collect, the whole run, and farms.

Where each fault is tested through `profiler collect` against a real daemon (A: test_profiler_devices_adb_faults.py) or server (S:
test_profiler_devices_ssh_faults.py): one line and its exit code, nothing lost, nothing measured twice, and the same command makes the
table whole. What an agent is tested for by itself is in D (test_device_agents_adb_real.py) and E (test_device_agents_ssh_real.py).

    cable pulled in push, run and pull, 50 moments   A pulled_again_and_again, stays_out; D cable_pulled_at_50_random_moments; S lost,
                                                     cable_that_is_pulled, rebooted; E connection_that_is_cut_at_any_moment
    unauthorised key, key revoked meanwhile          A and S key_that_is_revoked_meanwhile; here and C typed_wrong
    unwritable target                                here and C typed_wrong
    device disk full, before and meanwhile           A and S disk_that_is_full_or_fills_up
    runner missing, of a wrong architecture,         A each_fault_of_the_runner; D another_architecture; S each_fault_of_the_worker,
    crashing, hanging, rubbish, truncated            python_or_a_runtime_that_is_missing
    runner of an older format                        A each_fault_of_the_runner (_old), runner_of_an_older_format
    two devices with one name                        test_profiler_devices_adb_server.py two_phones_of_one_model, of_one_serial
    thermal status rising, and staying high          A thermal_status_that_rises, that_stays_high; S throttling_that_the_firmware_tells
    battery low, before and meanwhile                A battery_that_is_low_or_runs_low
    clock stepping                                   A and S clock_that_steps
    host key changed                                 S host_key_that_changed
    device restarted                                 A phone_that_restarts; S host_that_is_rebooted
    metacharacters in every name                     here and C (test_profiler_devices_ssh.py) never_executed; D never_executed; E no_setting
    this computer's process killed                   here and C killed_at_any_moment; E a_host_that_is_killed
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from android_runner_builds import runner
from collecting import killed_again_and_again
from device_runs import COMMAND, RESOLUTION, SPACE, assert_table, declare, measure_little, refused, typed, visits_of, whole_run
from real_adbd import RealAdbd, real_adbd
from real_sshd import one_sshd

from device_agents.adb import FOLDER

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(600)]

BATTERY = "#!/system/bin/sh\n[ $1 = battery ] && echo '  level: 80' && echo '  temperature: 250'\n"
QUICK = {"least_s": 0.0, "warmup_s": 0.0}


@pytest.fixture(scope="module")
def adbd() -> Iterator[RealAdbd]:
    with real_adbd() as running:
        running.install("dumpsys", BATTERY)
        yield running


@pytest.fixture
def phone(adbd: RealAdbd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Give the settings of a device `phone` that is declared in the folder where the test stands, and see that nothing is left on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "9")  # of the discard service, which nobody runs
    measure_little(monkeypatch)
    settings = {
        "transport": "adb", "address": f"tcp:{adbd.serial}", "key": str(adbd.key), "runner": str(runner(tmp_path)), "cores": [], **QUICK
    }  # fmt: skip
    declare(tmp_path, phone=settings)
    yield settings
    assert_nothing_left(adbd)


def assert_nothing_left(adbd: RealAdbd) -> None:
    for _ in range(200):
        left = [str(path) for path in adbd.path(FOLDER).rglob("*")] if adbd.path(FOLDER).exists() else []
        if not left and not adbd.pids("benchmark_model"):
            return
        time.sleep(0.05)
    raise AssertionError((left, adbd.pids("benchmark_model")))


@pytest.fixture(scope="session")
def accuracies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "accuracies.db"


# --- the commands -----------------------------------------------------------------------------------------------------------


def test_check_proves_the_phone_and_how_it_repeats_itself(phone: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = typed(capsys, "devices", "--check", "phone", "--minutes", 0.01)
    for step in ("reachable", "authorised", "writable", "runtime", "cores pinned", "battery"):
        assert f"ok           {step}" in out
    assert "Repeatability of phone" in out
    core = min(os.sched_getaffinity(0))
    assert f"{core}" in typed(capsys, "devices", "--check", "phone", "--minutes", 0, "--cores", core)[0]
    assert "tcp:127.0.0.1" in typed(capsys, "devices")[0]


def test_cores_that_are_named_win_over_the_cluster_of_the_papers_phones(
    phone: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(tmp_path, pixel1={key: value for key, value in phone.items() if key not in ("transport", "cores")})
    core = min(os.sched_getaffinity(0))
    assert "none of the" in typed(capsys, "devices", "--check", "pixel1", "--minutes", 0, ends_with=1)[0]
    assert "cores pinned" in typed(capsys, "devices", "--check", "pixel1", "--minutes", 0, "--cores", core)[0]
    assert "not pinned" in typed(capsys, "devices", "--check", "pixel1", "--minutes", 0, "--set", "cores=[]")[0]


def test_a_table_is_collected_and_a_second_time_there_is_nothing_to_do(
    phone: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("collect", "--device", "phone", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--time-budget", "5s")
    out, err = typed(capsys, *command, "--out", tmp_path / "phone.lut")
    assert "holds 60 blocks and 10 whole networks" in out + err
    assert_table(tmp_path / "phone.lut", ("alone",), device="phone", runtime="benchmark_model", delegate="xnnpack", precision="float32")
    before = visits_of(tmp_path / "phone.lut")
    out, err = typed(capsys, *command, "--out", tmp_path / "phone.lut")
    assert "nothing to do" in out + err
    assert visits_of(tmp_path / "phone.lut") == before


@pytest.mark.torch
def test_the_whole_run_ends_with_a_network_verified_on_the_phone(
    phone: dict[str, Any], tmp_path: Path, accuracies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = whole_run(capsys, "phone", tmp_path / "run", accuracies=accuracies)
    (verification,) = record.verifications
    assert (verification.format, verification.condition["device"]) == ("tflite", "phone")
    assert verification.condition["runtime"] == "benchmark_model" and verification.measured_latency_ms > 0
    assert {model.format for model in record.models} == {"onnx", "tflite"}
    assert_table(tmp_path / "run" / "latency-device.lut", ("alone",), device="phone")


def test_a_farm_of_a_phone_a_host_and_this_computer_fills_a_table_each_and_one_that_is_not_there_fails_alone(
    phone: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("asyncssh")
    pytest.importorskip("ai_edge_litert")
    with one_sshd(tmp_path / "host") as server:
        host = {"transport": "ssh", "runtime": "litert", "python": sys.executable, **server.settings()}
        declare(tmp_path, phone=phone, host=host, here={"transport": "local", "runtime": "litert"}, unplugged={**phone, "address": "tcp:127.0.0.1:9"})
        command = ("collect", "--device", "phone,host,here,unplugged", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick")
        out, err = typed(capsys, *command, "--rounds", 1, "--time-budget", "1s", "--out", tmp_path / "lab", ends_with=1)
    (failed,) = [line for line in err.splitlines() if line.startswith("profiler: ")]
    assert "device 'unplugged' failed" in failed and "Connection refused" in failed
    for name, modes in (("phone", ("alone",)), ("host", ("alone", "chain")), ("here", ("alone", "chain"))):
        assert f"{name}: " in out + err
        assert_table(tmp_path / "lab" / f"{name}.lut", modes, device=name)


# --- what is typed wrong ----------------------------------------------------------------------------------------------------


def test_what_is_typed_wrong_is_one_line_that_says_what_to_do(
    phone: dict[str, Any], adbd: RealAdbd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect = ("collect", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--out", tmp_path / "never.lut", "--device", "phone")
    stranger = tmp_path / "stranger"
    from device_agents.android import keys

    keys.make(stranger)
    text = tmp_path / "text"
    text.write_text("no program\n")
    for words, code, said in (
        (("--device", "pixle1"), 2, "unknown device 'pixle1'; known devices: "),
        (("--address", "nonsense here"), 2, "is no address of an Android device; expected tcp:HOST:PORT"),
        (("--address", "tcp:127.0.0.1:70000"), 2, "is no address of an Android device on the network"),
        (("--address", "tcp:127.0.0.1:9"), 1, "Connection refused"),
        (("--address", "FA6AB0301234"), 1, "no Android device with the serial 'FA6AB0301234' is attached; attached are: none"),
        (("--set", "thread=2"), 2, "thread 2 was given for device 'phone', whose transport 'adb' has only the settings "),
        (("--set", "threads"), 2, "expected KEY=VALUE"),
        (("--set", "threads=many"), 2, "threads is 'many'; expected a whole number"),
        (("--set", f"key={tmp_path}/none"), 1, f"{tmp_path}/none"),
        (("--set", f"key={stranger}"), 1, "accept"),
        (("--runner", "/data/local/tmp/none/benchmark_model"), 1, "no such file on the phone"),
        (("--runner", "./none/benchmark_model"), 1, "on this computer"),
        (("--runner", str(text)), 2, "runner_kind does not follow from the name of runner"),
        (("--runner", str(text), "--set", "runner_kind=benchmark_model"), 1, "runner"),
        (("--delegate", "tpu"), 2, "delegate is 'tpu'; runner 'benchmark_model' has"),
        (("--cluster", "huge"), 2, "cluster"),
        (("--runtime", "litert"), 2, "runtime 'litert' was given for device 'phone'"),
        (("--cores", "4096"), 1, "cores 4096"),
        (("--set", "folder=/system/never"), 1, "set `folder`"),
    ):  # fmt: skip
        assert said in refused(capsys, *collect, *words, ends_with=code), words
    assert not (tmp_path / "never.lut").exists() or visits_of(tmp_path / "never.lut") == []


@pytest.mark.parametrize("odd", ["$(touch executed)", "; touch executed;", "`touch executed`", "a'b\"c & touch executed"])
def test_names_that_a_user_gives_are_never_executed(
    phone: dict[str, Any], adbd: RealAdbd, tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    program = runner(tmp_path / odd, name=f"{odd} benchmark_model")
    folder = f"/data/local/tmp/el {odd}"
    declare(tmp_path, phone={**phone, "runner": str(program), "folder": folder, "runner_version": odd})
    typed(capsys, "devices", "--check", "phone", "--minutes", 0)
    refused(capsys, "collect", "--device", odd, "--space", SPACE, "--out", tmp_path / "never.lut", ends_with=2)
    for key in ("address", "key", "delegate", "cluster", "runner_kind", "precision"):
        typed(capsys, "devices", "--check", "phone", "--minutes", 0, "--set", f"{key}={odd}", ends_with=(0, 1, 2))
    assert not [*tmp_path.rglob("executed"), *adbd.path("/data/local/tmp").rglob("executed")]
    adbd.path(folder).rmdir()  # it is empty


# --- killed -----------------------------------------------------------------------------------------------------------------


def test_a_collection_that_is_killed_at_any_moment_goes_on_and_measures_nothing_twice(
    phone: dict[str, Any], adbd: RealAdbd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "phone.lut"
    declare(tmp_path, phone={**phone, "least_s": 0.02})
    command = ("collect", "--device", "phone", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--out", table)
    killed_again_and_again(lambda: list(adbd.path(FOLDER).glob("session/b*")), 1.5, table, *command)
    typed(capsys, *command)
    assert_table(table, ("alone",), device="phone")
    assert len(visits_of(table)) == len(set(visits_of(table)))


def test_ctrl_c_ends_with_its_own_code_and_leaves_nothing_on_the_phone(phone: dict[str, Any], adbd: RealAdbd, tmp_path: Path) -> None:
    command = ["collect", "--device", "phone", "--space", SPACE, "--preset", "quick", "--out", str(tmp_path / "phone.lut")]
    with subprocess.Popen([*COMMAND, *command], stderr=subprocess.PIPE, text=True) as collecting:
        begun = time.monotonic() + 60
        while not list(adbd.path(FOLDER).glob("session/b*")) and collecting.poll() is None and time.monotonic() < begun:
            time.sleep(0.02)
        collecting.send_signal(signal.SIGINT)
        said = collecting.stderr.read() if collecting.stderr else ""
        assert collecting.wait() == 130 and "Traceback" not in said
    assert_nothing_left(adbd)
