"""Phones that Debian's adb server holds, as a user has them: docs/devices.md step by step, and two phones where one is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from android_peers import AdbServer, running_adb_server, server_double
from android_runner_builds import runner
from collecting import Collecting
from device_runs import RESOLUTION, SPACE, measure_little, refused, typed
from real_adbd import RealAdbd, real_adbd
from real_phone import RealPhone

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(600)]

COLLECT = ("collect", "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--out", "never.lut")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """Run an adb server, which is the user's."""
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    with running_adb_server() as running:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(running.address.port))
        yield running


@pytest.fixture
def pixel(server: AdbServer, tmp_path: Path) -> Iterator[RealAdbd]:
    """Attach a phone that calls itself Pixel, with clocks of which one core's is the highest."""
    with real_adbd() as adbd:
        is_a_pixel(adbd, server, tmp_path)
        yield adbd


def is_a_pixel(adbd: RealAdbd, server: AdbServer, folder: Path) -> None:
    RealPhone(adbd, folder)  # what its services say
    adbd.set_properties(ro__product__model="Pixel")
    for core in os.sched_getaffinity(0):
        clocks = adbd.sys / f"devices/system/cpu/cpu{core}/cpufreq"
        clocks.mkdir(parents=True)
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
            (clocks / name).write_text("2150400\n" if core == max(os.sched_getaffinity(0)) else "1593600\n")
        (clocks / "scaling_governor").write_text("schedutil\n")
    adbd.authorise(server.key)
    server.attach(adbd.serial)


def test_the_steps_of_the_document_lead_to_a_table(server: AdbServer, pixel: RealAdbd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = runner(tmp_path, name="android_aarch64_benchmark_model")
    assert "no such file on the phone" in typed(capsys, "devices", "--check", "pixel1", "--minutes", 0, ends_with=1)[0]
    for words in (("push", str(program), "/data/local/tmp/benchmark_model"), ("shell", "chmod", "755", "/data/local/tmp/benchmark_model")):
        done = server.run(*words)
        assert done.returncode == 0, done
    listed = next(line for line in typed(capsys, "devices")[0].splitlines() if line.split()[:1] == ["pixel1"])
    assert pixel.serial in listed
    out, _ = typed(capsys, "devices", "--check", "pixel1", "--minutes", 0.01)
    core = max(os.sched_getaffinity(0))
    for step in ("reachable", "authorised", "writable", "runtime", f"cores pinned     cores {core}", "clocks readable", "temperature", "battery"):
        assert f"ok           {step}" in out, out
    collecting = Collecting(capsys, "pixel1", tmp_path / "pixel1.lut", ("alone",), ("--set", "least_s=0", "--set", "warmup_s=0"))
    collecting.is_done(runtime="benchmark_model", delegate="xnnpack", cores=(core,))


def test_two_phones_of_one_model_are_never_chosen_between(
    server: AdbServer, pixel: RealAdbd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with real_adbd() as other:
        is_a_pixel(other, server, tmp_path)
        for words in (COLLECT, ("devices", "--check")):
            text = "".join(typed(capsys, *words, *(("--device",) if words is COLLECT else ()), "pixel1", ends_with=1))
            assert f"device 'pixel1' is any phone of model 'Pixel', and {pixel.serial} and {other.serial} are" in text or (
                f"{other.serial} and {pixel.serial} are" in text
            )
            assert "set `address` to the serial of one" in text
        out, _ = typed(capsys, "devices", "--check", "pixel1", "--address", other.serial, "--minutes", 0, ends_with=1)
        assert f"ok           reachable        serial {other.serial}" in out
    assert not Path("never.lut").exists()


def test_two_phones_of_one_serial_are_both_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is played here holds them: a serial of one's own is what a real one sees on cables alone."""
    lines = "".join(f"0123456789ABCDEF       device usb:1-{port} model:Pixel transport_id:{port}\n" for port in (1, 2))
    with server_double(version="0029", devices=lines) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        said = refused(capsys, *COLLECT, "--device", "pixel1", "--address", "0123456789ABCDEF", ends_with=1)
    assert "several attached devices have the serial '0123456789ABCDEF': " in said and "as server:usb:1-2" in said
    assert "usb:1-1" in said and "usb:1-2," in said
