"""The commands on hosts that SSH reaches: an OpenSSH server on this machine's architecture, and the one of an arm64 userland under qemu.

What works under qemu is stated, and no time is. The faults are listed in test_profiler_devices_adb.py.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncssh")
pytest.importorskip("ai_edge_litert")
from arm64_root import arm64_root
from collecting import killed_again_and_again
from device_runs import RESOLUTION, SPACE, assert_table, declare, measure_little, refused, typed, visits_of, whole_run
from real_sshd import Sshd, one_sshd

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(900)]

MODES = ("alone", "chain")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with one_sshd(tmp_path_factory.mktemp("device")) as server:
        yield server


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with arm64_root() as root:
        with one_sshd(tmp_path_factory.mktemp("arm64"), root=root) as server:
            yield server
        assert list((root / "tmp").iterdir()) == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with presets that measure little."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "9")  # of the discard service, which nobody runs
    measure_little(monkeypatch)
    return tmp_path


@pytest.fixture
def pi(sshd: Sshd, here: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of a device `pi` that is declared in the folder where the test stands, and see that nothing is left on it."""
    place = here / "there"
    place.mkdir()
    settings = {"transport": "ssh", "runtime": "litert", "python": sys.executable, "folder": str(place), **sshd.settings()}
    declare(here, pi=settings)
    yield settings
    end = time.monotonic() + 40
    while list(place.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(place.iterdir()) == []


@pytest.fixture(scope="session")
def accuracies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "accuracies.db"


# --- the commands -----------------------------------------------------------------------------------------------------------


def test_check_proves_the_host_and_how_it_repeats_itself(pi: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = typed(capsys, "devices", "--check", "pi", "--minutes", 0.01)
    for step in ("reachable", "host key", "login", "python", "folder", "runtime", "cores"):
        assert f"ok           {step}" in out
    assert "Repeatability of pi" in out
    assert "not asked" in typed(capsys, "devices")[0]


def test_a_table_is_collected_and_a_second_time_there_is_nothing_to_do(pi: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("collect", "--device", "pi", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--time-budget", "5s")
    out, err = typed(capsys, *command, "--out", here / "pi.lut")
    assert "holds 60 blocks and 10 whole networks" in out + err
    assert_table(here / "pi.lut", MODES, device="pi", runtime="litert", delegate="xnnpack", precision="float32")
    before = visits_of(here / "pi.lut")
    assert "nothing to do" in "".join(typed(capsys, *command, "--out", here / "pi.lut"))
    assert visits_of(here / "pi.lut") == before


@pytest.mark.torch
def test_the_whole_run_ends_with_a_network_verified_on_the_host(
    pi: dict[str, Any], here: Path, accuracies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = whole_run(capsys, "pi", here / "run", accuracies=accuracies)
    (verification,) = record.verifications
    assert (verification.format, verification.condition["device"], verification.condition["runtime"]) == ("tflite", "pi", "litert")
    assert_table(here / "run" / "latency-device.lut", MODES, device="pi")


@pytest.mark.torch
def test_the_whole_run_works_on_an_arm64_system(board: Sshd, here: Path, accuracies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare(here, raspberrypi4={**board.settings(), "python": "python3"})  # the package's own device, at another address
    out, _ = typed(capsys, "devices", "--check", "raspberrypi4", "--minutes", 0)
    assert "aarch64" in out
    record = whole_run(capsys, "raspberrypi4", here / "run", accuracies=accuracies)
    (verification,) = record.verifications
    assert (verification.format, verification.condition["device"], verification.condition["runtime"]) == ("tflite", "raspberrypi4", "litert")
    table = here / "run" / "latency-device.lut"
    assert_table(table, MODES, device="raspberrypi4", cpu_model="Raspberry Pi 4 Model B Rev 1.4")


# --- what is typed wrong ----------------------------------------------------------------------------------------------------


def test_what_is_typed_wrong_is_one_line_that_says_what_to_do(pi: dict[str, Any], sshd: Sshd, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect = ("collect", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--out", here / "never.lut", "--device", "pi")
    stranger, open_key = here / "stranger", here / "open"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    open_key.write_bytes(stranger.read_bytes())
    open_key.chmod(0o644)
    for words, code, said in (
        (("--set", "host=127.0.0.1", "--set", "port=9"), 1, "cannot be reached"),
        (("--set", "host=no-such-pi"), 1, "is no name of ~/.ssh/config and no address that is known here"),
        (("--set", "host="), 2, "host"),
        (("--set", "port=ssh"), 2, "port"),
        (("--set", f"key={stranger}"), 1, "ssh-copy-id"),
        (("--set", f"key={open_key}"), 1, "chmod 600"),
        (("--set", f"key={here}/none"), 1, f"{here}/none"),
        (("--set", f"known_hosts={here}/none"), 1, "is not known yet"),
        (("--set", "user=nobody-here"), 1, "does not take"),
        (("--set", "python=python3.99"), 1, "has no 'python3.99'"),
        (("--set", "folder=/proc"), 1, "cannot make a folder in /proc"),
        (("--runtime", "tflite"), 2, "tflite"),
        (("--cluster", "big"), 2, "cluster 'big' was given for device 'pi', whose transport 'ssh' has only the settings"),
        (("--address", "10.0.0.1"), 2, "address '10.0.0.1' was given for device 'pi'"),
        (("--cores", "4096"), 1, "cores"),
        (("--batch", "0"), 2, "batch"),
    ):  # fmt: skip
        _, err = typed(capsys, *collect, *words, ends_with=code)
        assert said in err, (words, err)
        assert code == 2 or err.count("\n") == 1, err
    refused(capsys, "devices", "--bootstrap", "pi", "--set", "host=no-such-pi", ends_with=1)
    assert not (here / "never.lut").exists() or visits_of(here / "never.lut") == []


@pytest.mark.parametrize("odd", ["$(touch executed)", "; touch executed;", "`touch executed`"])
def test_names_that_a_user_gives_are_never_executed(pi: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str], odd: str) -> None:
    for key in ("host", "user", "python", "venv", "folder", "key", "known_hosts"):
        typed(capsys, "devices", "--check", "pi", "--minutes", 0, "--set", f"{key}={odd}", ends_with=(0, 1, 2))
    named = here / odd
    named.mkdir()
    (named / "python").symlink_to(sys.executable)
    typed(capsys, "devices", "--check", "pi", "--minutes", 0, "--runtime", "echo", "--set", f"folder={named}", "--set", f"python={named}/python")
    refused(capsys, "collect", "--device", odd, "--space", SPACE, "--out", here / "never.lut", ends_with=2)
    assert not [path for place in (here, Path("/root"), Path("/tmp"), Path("/")) for path in place.glob("executed")]


# --- killed -----------------------------------------------------------------------------------------------------------------


def test_a_collection_that_is_killed_at_any_moment_goes_on_and_measures_nothing_twice(
    pi: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, place = here / "pi.lut", Path(pi["folder"])
    command = ("collect", "--device", "pi", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--out", table)
    killed_again_and_again(lambda: list(place.iterdir()), 3.0, table, *command)
    typed(capsys, *command)
    assert_table(table, MODES, device="pi")
