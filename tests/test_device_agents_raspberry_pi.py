"""What a Raspberry Pi says of itself by vcgencmd, for which a script stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agents.on_device.system_state import StateReader, describe


@pytest.fixture
def board(tmp_path):
    """Give a maker of readers whose vcgencmd answers by these texts, and of files as the kernel has them."""

    def make(answers: dict[str, str], files: dict[str, str] | None = None) -> StateReader:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        command = tmp_path / "vcgencmd"
        cases = "\n".join(f"'{words}') cat '{write(tmp_path / words.replace(' ', '_'), text)}';;" for words, text in answers.items())
        command.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\n*) echo "error=1 error_msg=\\"Command not registered\\"";;\nesac\n')
        command.chmod(0o755)
        return StateReader([0], str(tmp_path), vcgencmd=str(command))

    return make


def write(file: Path, text: str) -> Path:
    file.write_text(text + "\n")
    return file


CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
ZONE = {"sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": "51121"}


def test_the_clock_is_what_the_firmware_gives_where_that_is_slower_than_what_the_kernel_asked_for(board):
    capped = board({"measure_clock arm": "frequency(48)=600117184", "get_throttled": "throttled=0x50005"}, {CPUFREQ: "1800000"})
    assert capped.read()["frequency_khz"] == 600117
    assert capped.read()["throttled"] is True


def test_other_boards_number_their_clocks_otherwise(board):
    assert board({"measure_clock arm": "frequency(0)=2400033792"}).read()["frequency_khz"] == 2400033
    assert board({"measure_clock arm": "frequency(45)=0"}, {CPUFREQ: "1500000"}).read()["frequency_khz"] == 1500000


def test_the_temperature_comes_from_the_kernel_and_else_from_the_firmware(board):
    assert board({"measure_temp": "temp=52.0'C"}).read()["temperature_c"] == 52.0
    assert board({"measure_temp": "temp=99.0'C"}, ZONE).read()["temperature_c"] == 51.121


def test_a_firmware_that_may_not_be_asked_is_unknown_and_not_zero(board):
    state = board({"get_throttled": "VCHI initialization failed"}).read()
    assert (state["throttled"], state["frequency_khz"], state["temperature_c"]) == (None, None, None)


@pytest.mark.parametrize("bit", range(4))
def test_each_bit_of_now_is_throttling_and_each_of_since_boot_only_when_it_is_new(board, tmp_path, bit):
    reader = board({"get_throttled": "throttled=0x0"})
    write(tmp_path / "get_throttled", f"throttled={1 << bit:#x}")
    assert reader.read()["throttled"] is True
    write(tmp_path / "get_throttled", f"throttled={1 << (bit + 16):#x}")
    assert [reader.read()["throttled"], reader.read()["throttled"]] == [True, False]


@pytest.mark.parametrize(
    ("cpuinfo", "tree", "expected"),
    [
        ("Hardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4", "", "Raspberry Pi 4 Model B Rev 1.4"),
        ("model name\t: ARMv7 Processor rev 3 (v7l)\nHardware\t: BCM2711\nModel\t\t: Raspberry Pi 4 Model B", "", "Raspberry Pi 4 Model B"),
        ("processor\t: 0\nCPU part\t: 0xd0b", "NVIDIA Jetson Orin Nano\0", "NVIDIA Jetson Orin Nano"),
        ("model\t\t: 1\nmodel name\t: AMD EPYC", "", "AMD EPYC"),
        ("Hardware\t: Odroid XU4", "", "Odroid XU4"),
        ("", "", None),
    ],
)
def test_boards_are_told_apart_by_their_own_names(tmp_path, cpuinfo, tree, expected):
    for name, text in (("proc/cpuinfo", cpuinfo), ("proc/device-tree/model", tree)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert describe(str(tmp_path))["cpu_model"] == expected
