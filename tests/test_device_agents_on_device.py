"""The parts of the worker one by one: timed loop, pinning, inputs, system state."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os

import numpy as np
import pytest

from device_agents.on_device.inputs import fixed_shape, random_input
from device_agents.on_device.pinning import PinningRefused, pin
from device_agents.on_device.preflight import preflight
from device_agents.on_device.system_state import StateReader, describe
from device_agents.on_device.timed_loop import PROBES, timed_cycles

UNKNOWN = {"load_1m": None, "frequency_khz": None, "temperature_c": None, "throttled": None, "memory_available_kb": None}

# --- timed loop -----------------------------------------------------------------------------------------------------------


def test_cycles_call_every_run_in_order_and_time_the_call_alone():
    calls = []
    ticks = itertools.accumulate(itertools.cycle([1, 10]))  # 10 within a call, 1 between calls
    runs = [lambda: calls.append("a"), lambda: calls.append("b")]
    assert timed_cycles(runs, cycles=3, warmup_cycles=2, clock=lambda: next(ticks)) == ([[10, 10, 10], [10, 10, 10]], 1)
    assert "".join(calls) == "ab" * 5


@pytest.mark.parametrize(("min_call", "repeats"), [(0, 1), (5, 1), (10, 1), (11, 2), (95, 10)])
def test_a_short_run_is_repeated_inside_each_call_until_that_is_long_enough(min_call, repeats):
    calls = []
    ticks = itertools.accumulate(itertools.cycle([1, 10]))
    _, found = timed_cycles([lambda: calls.append("a")], cycles=3, warmup_cycles=0, min_call_ns=min_call, clock=lambda: next(ticks))
    assert found == repeats
    assert len(calls) == 3 * repeats + (PROBES if min_call else 0)


def test_a_chain_is_never_repeated():
    ticks = itertools.accumulate(itertools.cycle([1, 10]))
    runs = [lambda: None, lambda: None]
    assert timed_cycles(runs, cycles=1, warmup_cycles=0, min_call_ns=1000, clock=lambda: next(ticks)) == ([[10], [10]], 1)


def test_garbage_is_not_collected_during_timing_and_is_again_after_it():
    collecting = []
    timed_cycles([lambda: collecting.append(gc.isenabled())], cycles=2, warmup_cycles=1)
    assert collecting == [False] * 3
    with pytest.raises(ZeroDivisionError):
        timed_cycles([lambda: 1 // 0], cycles=1, warmup_cycles=0)
    assert gc.isenabled()


# --- pinning --------------------------------------------------------------------------------------------------------------


def test_pinning_that_the_kernel_does_not_confirm_is_refused(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    with pytest.raises(PinningRefused, match=r"cores \[2\] were asked for, and the kernel gave \[0, 1, 2, 3\]"):
        pin([2])
    assert pin([3, 2, 1, 0]) == [0, 1, 2, 3]


def test_pinning_where_the_system_cannot_is_refused(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(PinningRefused, match=r"set cores = \[\]"):
        pin([0])
    assert pin([]) == []


# --- inputs ---------------------------------------------------------------------------------------------------------------


def test_inputs_are_random_fixed_by_shape_and_never_zero_or_denormal():
    values = random_input([1, 3, 32, 32], "float32")
    assert values.dtype == np.float32
    assert np.abs(values).min() >= 0.1 and np.abs(values).max() <= 1.0
    assert abs(values.mean()) < 0.1
    assert np.array_equal(values, random_input([1, 3, 32, 32], "float32"))
    assert not np.array_equal(values.ravel(), random_input([1, 32, 32, 3], "float32").ravel())
    assert random_input([4, 4], "int8").min() > 0


@pytest.mark.parametrize("shape", [[1, None, 3], ["batch", 3], [1, -1], [0, 3]])
def test_shapes_that_are_not_fixed_are_refused(shape):
    with pytest.raises(ValueError, match="'input' of the model has the shape"):
        fixed_shape("input", shape)


# --- system state ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """Give a maker of a root folder with these files."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        (tmp_path / "root").mkdir(exist_ok=True)
        return str(tmp_path / "root")

    return make


def cpufreq(core, **files):
    return {f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": text for name, text in files.items()}


def state(folder, cores=(0, 1), **settings):
    return StateReader(list(cores), folder, clock=lambda: 5, **settings).read()


def test_what_cannot_be_read_is_none_and_never_zero(root):
    assert state(root({})) == {"unix_time_ns": 5, **UNKNOWN}
    assert describe(root({}))["cpu_model"] is None
    assert describe(root({}))["memory_total_kb"] is None


def test_unreadable_words_and_zero_clocks_are_none(root):
    files = {**cpufreq(0, scaling_cur_freq="<unknown>"), **cpufreq(1, scaling_cur_freq="0"), "proc/meminfo": "MemAvailable: lots", "proc/loadavg": ""}
    assert state(root(files)) == {"unix_time_ns": 5, **UNKNOWN}


def test_load_memory_and_the_slowest_clock_are_read(root):
    files = {
        **cpufreq(0, scaling_cur_freq="2400000", scaling_governor="schedutil"), **cpufreq(1, scaling_cur_freq="1800000"),
        **cpufreq(2, scaling_cur_freq="600000"),
        "proc/loadavg": "0.75 0.50 0.25 1/100 1234", "proc/meminfo": "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:  5000 kB",
        "proc/cpuinfo": "processor : 0\nmodel name\t: Fast CPU @ 3 GHz",
    }  # fmt: skip
    folder = root(files)
    assert state(folder) == {"unix_time_ns": 5, **UNKNOWN, "load_1m": 0.75, "frequency_khz": 1800000, "memory_available_kb": 5000}
    assert StateReader([0], folder).governor() == "schedutil"
    assert StateReader([1], folder).governor() is None
    assert describe(folder)["cpu_model"] == "Fast CPU @ 3 GHz"


def test_boards_without_a_model_name_tell_theirs_by_the_device_tree(root):
    assert (
        describe(root({"proc/cpuinfo": "processor\t: 0", "proc/device-tree/model": "Raspberry Pi 4 Model B\0"}))["cpu_model"]
        == "Raspberry Pi 4 Model B"
    )


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ({"cpu-thermal": "51234"}, 51.234),
        ({"x86_pkg_temp": "40000", "cpu1": "61000", "battery": "99000"}, 61.0),
        ({"soc": "415"}, 41.5),
        ({"soc": "41"}, 41.0),
        ({"cpu": "-99900"}, None),
        ({"cpu": "0"}, None),
        ({"acpitz": "27800"}, None),
    ],
)
def test_temperature_is_the_hottest_believable_one_of_the_processor(root, zones, expected):
    files = {}
    for number, (kind, value) in enumerate(zones.items()):
        files |= {f"sys/class/thermal/thermal_zone{number}/type": kind, f"sys/class/thermal/thermal_zone{number}/temp": value}
    assert state(root(files))["temperature_c"] == expected


def test_temperature_comes_from_sensors_where_there_are_no_zones(root):
    files = {"sys/class/hwmon/hwmon0/name": "nvme", "sys/class/hwmon/hwmon0/temp1_input": "70000",
             "sys/class/hwmon/hwmon1/name": "k10temp", "sys/class/hwmon/hwmon1/temp1_input": "55500"}  # fmt: skip
    assert state(root(files))["temperature_c"] == 55.5


def test_a_clock_capped_since_the_session_began_is_throttled_and_one_capped_from_the_start_is_not(root):
    folder = root(cpufreq(1, scaling_max_freq="1500000", cpuinfo_max_freq="2000000"))
    reader = StateReader([0, 1], folder)
    assert reader.read()["throttled"] is False
    assert (reader.clock_limits_khz, reader.clock_maxima_khz()) == ([None, 1500000], [None, 2000000])
    root(cpufreq(1, scaling_max_freq="1400000"))
    assert reader.read()["throttled"] is True
    assert state(folder)["throttled"] is False
    assert state(folder, clock_limits_khz=[None, 1500000])["throttled"] is True, "a later worker of the session knows how it began"


def test_the_preflight_reads_clock_limits_battery_and_timer_and_leaves_the_rest_unknown(root):
    supply = {f"sys/class/power_supply/BAT0/{name}": text for name, text in {"type": "Battery", "capacity": "81", "status": "Charging"}.items()}
    folder = root({**supply, "sys/class/power_supply/AC/type": "Mains", **cpufreq(0, scaling_max_freq="1", cpuinfo_max_freq="2")})
    found = preflight(StateReader([0], folder, clock=lambda: 5), "onnxruntime", folder)
    assert 1 <= found.pop("timer_floor_ns") < 100_000
    assert found == {
        "clock_limits_khz": [1], "clock_maxima_khz": [2], "battery_percent": 81, "battery_status": "Charging", "build_sha256": None,
        "state": {"unix_time_ns": 5, **UNKNOWN, "throttled": False},
    }  # fmt: skip
    nothing = preflight(StateReader([0], root({}) + "/none", clock=lambda: 5), "", root({}) + "/none")
    assert {nothing[name] for name in ("battery_percent", "battery_status", "build_sha256")} == {None}


def test_the_build_of_a_runtime_is_the_digest_of_its_native_library(root, tmp_path):
    library = tmp_path / "onnxruntime" / "capi.so.1"
    library.parent.mkdir()
    library.write_bytes(b"code")
    folder = root({"proc/self/maps": f"7f00-7f01 r-xp 00000000 08:01 42   {library}\n7f02-7f03 r-xp 00000000 08:01 43   /usr/lib/libc.so.6"})
    assert preflight(StateReader([0], folder), "onnxruntime", folder)["build_sha256"] == hashlib.sha256(b"code").hexdigest()
    assert preflight(StateReader([0], folder), "litert", folder)["build_sha256"] is None


def test_throttling_counted_between_two_readings_is_throttling(root):
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    folder = root({counter: "41"})
    reader = StateReader([0], folder)
    assert reader.read()["throttled"] is False
    root({counter: "42"})
    assert reader.read()["throttled"] is True
    assert reader.read()["throttled"] is False


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("0x0", "0x0", False), ("0x50000", "0x50000", False), ("0x0", "0x20000", True), ("0x50000", "0x50005", True), ("nonsense", "nonsense", None)],
)
def test_a_raspberry_pi_s_bits_count_when_set_now_or_newly(root, tmp_path, before, after, expected):
    answer, command = tmp_path / "answer", tmp_path / "vcgencmd"
    command.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && cat {answer}\n')
    command.chmod(0o755)
    answer.write_text(f"throttled={before}\n")
    reader = StateReader([0], root({}), vcgencmd=str(command))
    answer.write_text(f"throttled={after}\n")
    assert reader.read()["throttled"] is expected
