"""Ctrl-C at any moment of writing: what was committed is kept, the next transaction works, and what is told is the Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from luts.interrupts import held_back
from luts.store import MeasurementStore, Subject

WRITER = """
import sys
import numpy as np
from luts.store import MeasurementStore, Subject
with MeasurementStore(sys.argv[1]) as store:
    store.add_subjects([Subject("a", "block", "", {})])
    begun = len(store.finished_plans())
    print("ready", flush=True)
    for number in range(begun, 100_000):
        store.add_visit(f"v{number}", "alone", 0, ["a"], np.array([[number + 1]]))
        print(number, flush=True)
"""


def interrupted_at_random_moments(store, seconds):
    """Write visits and be interrupted again and again; return the plan ids of those reported as written."""
    rng = np.random.default_rng(0)
    end_s, written, interrupts = time.monotonic() + seconds, set(), 0
    while time.monotonic() < end_s:
        try:
            timer = threading.Timer(rng.uniform(0.001, 0.03), os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            for number in range(100):
                name = f"v{interrupts}-{number}-{len(written)}"
                store.add_visit(name, "alone", 0, ["a"], np.array([[1]]))
                written.add(name)
            timer.join()
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > 5
    return written


def test_writing_goes_on_after_interrupts_and_nothing_that_was_reported_is_lost(tmp_path):
    path = tmp_path / "cpu.lut"
    with MeasurementStore(path) as store:
        store.add_subjects([Subject("a", "block", "", {})])
        written = interrupted_at_random_moments(store, 2.0)
        assert written <= store.finished_plans()
    assert [file.name for file in tmp_path.iterdir()] == ["cpu.lut"]
    with MeasurementStore(path, read_only=True) as store:
        assert written <= store.finished_plans()
        assert all(samples.tolist() == [1] for _, _, samples in store.samples("block"))


def test_an_interrupted_process_ends_with_the_interrupt_and_its_file_is_whole(tmp_path):
    path = tmp_path / "cpu.lut"
    rng = np.random.default_rng(1)
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        writer.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.2))
        writer.send_signal(signal.SIGINT)
        printed, told = writer.communicate(timeout=60)
        assert told.rstrip().endswith("KeyboardInterrupt"), told
        assert writer.returncode == -signal.SIGINT
        with MeasurementStore(path, read_only=True) as store:
            found = len(store.finished_plans())
        assert found >= int(printed.split()[-1]) + 1
    assert [file.name for file in tmp_path.iterdir()] == ["cpu.lut"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_its_effect_after_what_must_not_stop_half_way(number):
    came = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with held_back():
            signal.raise_signal(number)
            assert came == []
        assert came == [number]
        signal.raise_signal(number)
        assert came == [number, number], "the handler is back"
    finally:
        signal.signal(number, before)


def test_in_other_threads_signals_are_left_alone():
    seen = []

    def look():
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
