"""`profiler devices`: what is attached, and proving one device step by step."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.cli.main import run

HELD = (
    "FA6AB0301234           device usb:1-2 product:sailfish model:Pixel device:sailfish transport_id:1\n"
    "ce0316031c3d           unauthorized usb:1-3 transport_id:2\n"
    "R58M12ABCDE            device usb:1-4 product:d1xx model:SM_N970F device:d1 transport_id:3\n"
)


class AdbServerDouble(socketserver.BaseRequestHandler):
    """A test double of an adb server: it lists three phones, and does nothing else."""

    def handle(self) -> None:
        length = int(self.request.recv(4), 16)
        assert self.request.recv(length) == b"host:devices-l"
        self.request.sendall(b"OKAY" + f"{len(HELD):04x}{HELD}".encode())


@pytest.fixture(autouse=True)
def no_adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder without a file of devices, where no adb server answers, and an `adb` that must not be started."""
    program = tmp_path / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/adb-was-started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "9")  # of the discard service, which nobody runs
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def adb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socketserver.TCPServer(("127.0.0.1", 0), AdbServerDouble) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.server_address[1]))
        yield
        server.shutdown()


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    assert run(["devices", "--json"]) == 0
    return {each["device"]: each for each in json.loads(capsys.readouterr().out)}


def test_without_anything_attached_every_device_is_listed_with_what_is_known_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    assert found["local"] == {
        "device": "local",
        "transport": "local",
        "attached": True,
        "found": "this machine",
        "runtime": "onnxruntime",
        "threads": 1,
    }
    assert (found["raspberrypi4"]["attached"], found["raspberrypi4"]["found"]) == (None, "host raspberrypi4: not asked")
    assert found["pixel1"]["attached"] is not True
    assert not (tmp_path / "adb-was-started").exists()
    assert run(["devices"]) == 0
    shown = capsys.readouterr()
    assert all(name in shown.out for name in found) and "no adb server answers" in shown.err


def test_phones_that_an_adb_server_holds_are_found_by_model_and_by_address(
    adb_server: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "devices.toml").write_text(
        '[mine]\nbased_on = "pixel4"\naddress = "ce0316031c3d"\n[gone]\nbased_on = "pixel4"\naddress = "usb:1234"\n'
        '[far]\nbased_on = "pixel4"\naddress = "10.0.0.7:5555"\n'
    )
    found = listed(capsys)
    assert (found["pixel1"]["attached"], found["pixel1"]["found"]) == (True, "FA6AB0301234")
    assert (found["note10"]["attached"], found["note10"]["found"]) == (True, "R58M12ABCDE")
    assert (found["pixel2"]["attached"], found["pixel2"]["found"]) == (None, "perhaps ce0316031c3d, which was not asked")
    assert (found["mine"]["attached"], found["mine"]["found"]) == (False, "ce0316031c3d: unauthorized")
    assert found["gone"]["attached"] is not True
    assert (found["far"]["attached"], found["far"]["found"]) == (None, "10.0.0.7:5555: not asked")
    assert not (tmp_path / "adb-was-started").exists()


def test_listing_takes_less_than_two_seconds() -> None:
    began_s = time.process_time(), os.times().children_user
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-m", "profiler", "devices"], capture_output=True, check=True, env=environment)
    assert os.times().children_user - began_s[1] < 2


def test_the_steps_of_a_check_are_shown_and_then_what_the_device_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices", "--check", "simulated", "--minutes", "0", "--set", "seed=7"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["ok", "runtime", "simulated", "1", "(none)"]
    assert "seed 7" in shown
    assert run(["devices", "--check", "simulated", "--minutes", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checks"] == [{"name": "runtime", "passed": True, "text": "simulated 1 (none)"}]


def test_a_failed_step_is_the_last_and_ends_with_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("devices.toml").write_text('[elsewhere]\nbased_on = "local"\npython = "/nowhere/python3"\n')
    assert run(["devices", "--check", "elsewhere"]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1 and shown.out.startswith("failed ") and "/nowhere/python3" in shown.out
    assert shown.err == ""
    assert run(["devices", "--check", "elsewhere", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["checks"][-1]["passed"], found["repeatability"]) == (False, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "1"], "--minutes is about one device; name it with --check"),
        (["--runtime", "litert"], "--runtime is about one device; name it with --check"),
        (["--set", "threads=2"], "--set is about one device; name it with --check"),
        (["--check", "nowhere"], "unknown device 'nowhere'; known devices: "),
        (["--check", "simulated", "--cluster", "big"], "cluster 'big' was given for device 'simulated', whose transport 'simulated' has only"),
        (["--check", "local", "--bootstrap", "local"], "--check and --bootstrap were both given"),
        (["--bootstrap", "local"], "device 'local' is reached by transport 'local'; --bootstrap is for devices that SSH reaches"),
    ],
)
def test_what_was_typed_wrong_is_told_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
