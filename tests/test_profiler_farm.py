"""Several devices measured side by side, each by a process of its own: simulated ones, through the program as users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import postgres_server

from device_agents.devices import find_device
from luts.store import MeasurementStore
from profiler.cli.main import run
from profiler.farm import collect_side_by_side
from profiler.farm_jobs import Collection, Job, file_of, url_of

pytest.importorskip("onnx")
SPACE = "ofa-mobilenetv3-tiny"
ROUNDS = 2
SIZES = ["--space", SPACE, "--resolutions", "20", "--preset", "quick", "--rounds", str(ROUNDS)]
SEEDS = ["--set", "seed=3", "--set", "fast.seed=4"]


@pytest.fixture(autouse=True)
def own_devices(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder with two simulated devices, and one that cannot be opened."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "devices.toml").write_text(
        '[fast]\nbased_on = "simulated"\n[slow]\nbased_on = "simulated"\n[broken]\nbased_on = "simulated"\nseed = -1\n'
    )
    monkeypatch.chdir(folder)


def visits_of(place: str | Path, rounds: int = ROUNDS) -> dict[str, bytes]:
    """Return plan id and subject → samples of the rounds that hold everything; what later ones hold is a matter of time spent."""
    found = {}
    with MeasurementStore(place, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind):
                if visit.round < rounds:
                    found[f"{visit.plan_id}/{subject.key}"] = samples.tobytes()
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What the devices measure one by one."""
    folder = tmp_path_factory.mktemp("alone")
    found = {}
    for name, seed in (("slow", 3), ("fast", 4)):
        assert run(["collect", "--device", "simulated", "--set", f"seed={seed}", *SIZES, "--out", str(folder / f"{name}.lut")]) == 0
        found[name] = visits_of(folder / f"{name}.lut")
    return found


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "profiler", "collect", "--device", "slow,fast", *SIZES, *SEEDS, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def wait_until(met: Callable[[], object], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end_s, "it did not come to that"
        time.sleep(0.05)


def made(folder: Path, count: int) -> bool:
    """Return whether both devices have made so many visits."""
    for name in ("slow", "fast"):
        try:
            with MeasurementStore(folder / f"{name}.lut", read_only=True) as store:
                if len(store.finished_plans()) < count:
                    return False
        except (OSError, ValueError):
            return False
    return True


def processes_of(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_devices_measured_side_by_side_give_what_each_gives_alone_and_one_that_fails_stops_none(
    alone: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["collect", "--device", "slow,broken,fast", *SIZES, "--set", "slow.seed=3", "--set", "fast.seed=4", "--out", str(tmp_path / "lab")]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert [line for line in error.splitlines() if "broken" in line] == [
        "profiler: device 'broken' failed: seed is -1; expected a whole number of at least 0"
    ]
    assert f"slow: {tmp_path}/lab/slow.lut holds 60 blocks and 20 whole networks of {SPACE}; " in error
    assert {name: visits_of(tmp_path / "lab" / f"{name}.lut") for name in ("slow", "fast")} == alone
    assert sorted(file.name for file in (tmp_path / "lab").iterdir()) == ["fast.lut", "slow.lut"]
    before = {file: file.read_bytes() for file in (tmp_path / "lab").iterdir()}
    assert run(["collect", "--device", "slow,fast", *SIZES, *SEEDS, "--out", str(tmp_path / "lab"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: (each["failure"], each["result"]["summary"]["measured_visits"]) for name, each in shown.items()} == dict.fromkeys(
        ("slow", "fast"), (None, 0)
    )
    assert {file: file.read_bytes() for file in (tmp_path / "lab").iterdir()} == before


@pytest.mark.slow  # on a machine that is busy a collection may be over before it is stopped
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_ends_all_and_the_same_command_goes_on(number: signal.Signals, alone: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    process = started("--rounds", "4", "--out", str(tmp_path))
    wait_until(lambda: made(tmp_path, 50))
    collectors = processes_of(process.pid)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.count("\n")) == (130, 1) and "stopped" in error and "Traceback" not in error
    assert len(collectors) >= 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in collectors))
    assert not all(visits_of(tmp_path / f"{name}.lut") == alone[name] for name in alone)
    again = started("--rounds", "4", "--out", str(tmp_path))
    _, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    assert {name: visits_of(tmp_path / f"{name}.lut") for name in alone} == alone


@pytest.mark.slow  # as above
def test_collectors_end_by_themselves_when_their_caller_is_killed(tmp_path: Path) -> None:
    process = started("--rounds", "4", "--out", str(tmp_path))
    wait_until(lambda: made(tmp_path, 50))
    collectors = processes_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in collectors))


@pytest.mark.slow  # as above
def test_a_collector_that_is_killed_is_told_in_one_line_and_stops_no_other(alone: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    process = started("--rounds", "4", "--out", str(tmp_path))
    wait_until(lambda: made(tmp_path, 50))
    killed = next(pid for pid in processes_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(killed, signal.SIGKILL)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in error
    (told,) = [line for line in error.splitlines() if line.startswith("profiler: ")]
    assert "its process ended with exit code -9; what was measured is kept, run the same command to go on" in told
    finished = [name for name in alone if visits_of(tmp_path / f"{name}.lut") == alone[name]]
    assert len(finished) == 1 and f"device {finished[0]!r}" not in told


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def test_one_database_takes_all_devices_each_into_a_schema_of_its_own(server: str, alone: dict[str, dict[str, bytes]]) -> None:
    store = f"{server}&schema=lab"
    assert run(["collect", "--device", "slow,fast", *SIZES, "--rounds", "1", *SEEDS, "--store", store]) == 0
    for name, expected in alone.items():
        found = visits_of(f"{server}&schema=lab_{name}", rounds=1)
        assert found and found.items() <= expected.items()


def test_two_collectors_of_one_device_share_its_work_and_make_nothing_twice(alone: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    job = Job(find_device("slow", {"seed": 3}), tmp_path / "shared.lut", Collection(SPACE, "20", "quick", rounds=ROUNDS))
    seen = []
    (outcome,) = collect_side_by_side([job, job], lambda device, done, total, note: seen.append((device, done, total)))
    assert outcome.failure is None and outcome.result is not None and outcome.result.summary.complete
    assert visits_of(tmp_path / "shared.lut") == alone["slow"]
    with MeasurementStore(tmp_path / "shared.lut", read_only=True) as store:
        assert outcome.result.summary.measured_visits == len(store.finished_plans())
        assert len({session["collector"] for session in store.provenance()["sessions"]}) == 2
    assert seen == sorted(seen, key=lambda each: each[1]) and {device for device, _, _ in seen} == {"slow"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "slow,fast", "--out", "both.lut"], "--out both.lut is a file, and 2 devices are measured into one each; give a folder"),
        (["--device", "slow,slow", "--out", "lab"], "--device 'slow,slow' names slow twice; name each device once"),
        (["--device", "slow,,fast", "--out", "lab"], "--device 'slow,,fast' lacks a name"),
        (["--device", "slow,nowhere", "--out", "lab"], "unknown device 'nowhere'; known devices: broken, fast, "),
        (["--device", "slow,fast", "--out", "lab", "--threads", "2"], "threads 2 was given for device 'slow', whose transport 'simulated' has only"),
        (["--device", "slow,fast", "--out", "lab", "--set", "other.seed=1"], "--set 'other.seed=1' is about device 'other'; expected one of slow"),
        (["--device", "slow,fast", "--out", "lab", "--set", "seed"], "--set 'seed' is not understood; expected KEY=VALUE or DEVICE.KEY=VALUE"),
        (["--device", "slow,fast", "--out", "lab", "--address", "10.0.0.2:5555"], "give each its own with --set DEVICE.address=..."),
        (["--device", "slow", "--out", "a.lut", "--set", "seed=soon"], "seed is 'soon'; expected a whole number of at least 0"),
    ],
)  # fmt: skip
def test_what_was_typed_wrong_is_told_in_one_line_before_anything_is_measured(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(Path.cwd().iterdir())
    assert run(["collect", *SIZES, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(Path.cwd().iterdir()) == before


def test_two_devices_that_are_one_machine_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("devices.toml").write_text('[lite]\nbased_on = "local"\nruntime = "litert"\n')
    assert run(["collect", *SIZES, "--device", "local,lite", "--out", "lab"]) == 2
    assert "devices 'local' and 'lite' are the same machine" in capsys.readouterr().err
    assert not Path("lab").exists()


def test_places_of_several_devices_are_named_by_the_device() -> None:
    assert file_of(Path("lab"), "pixel1") == Path("lab/pixel1.lut")
    assert url_of("postgresql://me:word@host/db", "pixel1") == "postgresql://me:word@host/db?schema=pixel1"
    assert url_of("postgresql://host/db?schema=lab", "Galaxy-S7.edge") == "postgresql://host/db?schema=lab_galaxy_s7_edge"
    assert url_of("postgresql://host/db", "4th-pi") == "postgresql://host/db?schema=_4th_pi"


def test_devices_whose_schema_would_be_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("devices.toml").write_text('[a-b]\nbased_on = "simulated"\n[a_b]\nbased_on = "simulated"\n')
    assert run(["collect", *SIZES, "--device", "a-b,a_b", "--store", "postgresql://host/db"]) == 2
    assert "devices 'a-b' and 'a_b' would be measured into one place" in capsys.readouterr().err
