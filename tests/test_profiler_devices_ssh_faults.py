"""`profiler collect` on a host that something happens to meanwhile: OpenSSH, and what a host, its disk, its Python and its network can do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")
pytest.importorskip("ai_edge_litert")
from collecting import Collecting, once
from device_runs import declare, measure_little
from real_sshd import Sshd, one_sshd, run

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(600)]

MODES = ("alone", "chain")
PYTHON = """#!/bin/sh
case "$2" in -c) exec {python} "$@" ;; esac
exec {python} {passing_on} {python} "$@"
"""
# Stands between the worker and the host's SSH server: the file `fault` says after how many visits the worker seems to do what.
PASSING_ON = """
import os, signal, subprocess, sys, time
worker = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
visits = 0
for line in worker.stdout:
    if b'"samples_ns"' in line:
        visits += 1
        with open({visits!r}, "a") as file:
            file.write("1")
    with open({fault!r}) as file:
        after, _, fault = file.read().strip().partition(" ")
    if fault and visits > int(after):
        if fault == "hangs":
            time.sleep(300)
        line = {{"rubbish": b"\\0\\xff rubbish\\n", "other": b'{{"reply": "run"}}\\n', "truncated": line[: len(line) // 2]}}.get(fault, b"")
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    if fault in ("crashes", "ends", "truncated") and visits > int(after):
        worker.kill()
        os.write(2, b"assertion failed in kernel\\n")
        os.kill(os.getpid(), signal.SIGKILL) if fault == "crashes" else os._exit(3)
sys.exit(worker.wait())
"""
FAULTS = (
    ("crashes", "was killed by SIGKILL while running visit"),
    ("ends", "ended with exit status 3 while running visit"),
    ("truncated", "ended with exit status 3 while running visit"),
    ("rubbish", "rubbish"),
    ("other", "with what is not"),
    ("hangs", "did not answer within 3 s while running visit"),
)
STEPPING_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) { /* jumps 30 years to and fro 500 times a second: visits take longer */
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    struct timespec since_boot;
    real(CLOCK_MONOTONIC, &since_boot);
    if (clock == CLOCK_REALTIME && since_boot.tv_nsec / 1000000 % 2) now->tv_sec -= 1000000000;
    return result;
}
"""


class Pi:
    """A host, and what can be done to it; its Python hands on what the worker says, or something else."""

    def __init__(self, sshd: Sshd, folder: Path) -> None:
        self.sshd, self.place, self.fault, self.python = sshd, folder / "there", folder / "fault", folder / "python"
        self.visits = folder / "visits"
        self.place.mkdir()
        self.fails("")
        passing_on = folder / "passing_on.py"
        passing_on.write_text(PASSING_ON.format(fault=str(self.fault), visits=str(self.visits)))
        self.program(self.python, PYTHON.format(python=sys.executable, passing_on=passing_on))
        settings = {"transport": "ssh", "runtime": "litert", "python": str(self.python), "folder": str(self.place), "timeout_s": 3}
        declare(folder, pi={**settings, **sshd.settings()})

    def program(self, path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    @property
    def visits_made(self) -> int:
        """How many visits workers have made, whether or not they got here."""
        return self.visits.stat().st_size

    def fails(self, fault: str, after: int = 0) -> None:
        """Have workers fail so after as many visits; an empty fault makes them sound again."""
        self.fault.write_text(f"{after} {fault}")

    def vcgencmd(self, answer: str) -> None:
        """Have the firmware say so of throttling."""
        self.program(self.sshd.folder / "programs" / "vcgencmd", f'#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled={answer}\n')

    def assert_left_empty(self) -> None:
        end = time.monotonic() + 40
        while list(self.place.iterdir()) and time.monotonic() < end:
            time.sleep(0.05)
        assert list(self.place.iterdir()) == []


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    folder = tmp_path / "device"
    (folder / "programs").mkdir(parents=True)
    with one_sshd(folder, extra=[f"SetEnv PATH={folder}/programs:/usr/bin:/bin"]) as server:
        yield server


@pytest.fixture
def pi(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pi]:
    """Give a host that a devices.toml calls `pi`; nothing may be left on it."""
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    there = Pi(sshd, tmp_path)
    yield there
    there.assert_left_empty()


@pytest.fixture
def collecting(pi: Pi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Collecting:
    return Collecting(capsys, "pi", tmp_path / "pi.lut", MODES)


def test_each_fault_of_the_worker_is_one_line_and_the_table_is_whole_in_the_end(pi: Pi, collecting: Collecting) -> None:
    for fault, said in FAULTS:
        pi.fails(fault, after=2)
        collecting.is_stopped(said, least=2)
        pi.assert_left_empty()
    pi.fails("")
    collecting.is_done(runtime="litert")
    assert pi.visits_made == len(collecting.plans) + len(FAULTS), "what each fault cost is the visit under way"


def test_a_python_or_a_runtime_that_is_missing_is_one_line_and_installed_it_goes_on(pi: Pi, collecting: Collecting, tmp_path: Path) -> None:
    bare = pi.program(tmp_path / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    for words, said in (
        (("--set", f"python={bare}"), "has no numpy for"),
        (("--runtime", "tflite-runtime"), "or let this do it: profiler devices --bootstrap pi"),
        (("--set", "python=/etc/passwd"), "cannot run '/etc/passwd'"),
        (("--set", "python=/bin/cat"), "'/bin/cat' of device 'pi'"),
    ):
        collecting.words = words
        collecting.is_stopped(said)
    collecting.words = ()
    hidden = pi.python.with_name("hidden")
    with once(lambda: collecting.made >= 5, lambda: pi.python.rename(hidden)):
        collecting.is_stopped("No such file or directory", least=5)
    collecting.is_stopped("install Python 3.9 or later there")
    hidden.rename(pi.python)
    collecting.is_done()


def test_connections_that_are_lost_are_one_line_each_and_the_table_is_whole_in_the_end(pi: Pi, collecting: Collecting) -> None:
    for _ in range(3):
        now = collecting.made
        with once(lambda now=now: collecting.made >= now + 7, pi.sshd.cut):  # type: ignore[misc]
            collecting.is_stopped("was lost while", least=7)
    collecting.is_done()
    assert len(collecting.plans) <= pi.visits_made <= len(collecting.plans) + 3, "each loss cost at most the visit under way"


def test_a_cable_that_is_pulled_is_one_line_and_plugged_in_it_goes_on(pi: Pi, collecting: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_agents.ssh_login.KEEPALIVE_S", 0.5)
    with once(lambda: collecting.made >= 5, lambda: run("ip", "link", "set", pi.sshd.cable, "down")):
        collecting.is_stopped("was lost while", least=5)
    run("ip", "link", "set", pi.sshd.cable, "up")
    pi.sshd.cut()  # what the host's kernel does in the end
    collecting.is_done()


def test_a_host_that_is_rebooted_is_one_line_until_it_is_back(pi: Pi, collecting: Collecting) -> None:
    with once(lambda: collecting.made >= 5, pi.sshd.stop):
        collecting.is_stopped("was lost while", least=5)
    collecting.is_stopped("see that it is on")
    for left in pi.place.iterdir():
        os.utime(left, (1, 1))  # its keeper was killed with the host: the next one removes what it left
    pi.sshd.start()
    collecting.is_done()


def test_a_host_key_that_changed_is_refused_until_the_user_takes_the_new_one(pi: Pi, collecting: Collecting) -> None:
    with once(lambda: collecting.made >= 5, pi.sshd.stop):
        collecting.is_stopped("was lost while", least=5)
    for left in pi.place.iterdir():
        shutil.rmtree(left)
    known = pi.sshd.known_hosts.read_bytes()
    pi.sshd.change_host_key(known=False)
    pi.sshd.start()
    line = collecting.is_stopped("is another one than before")
    assert f"ssh-keygen -R '{pi.sshd.address}'" in line and pi.sshd.known_hosts.read_bytes() == known
    run("ssh-keygen", "-R", pi.sshd.address, "-f", pi.sshd.known_hosts)
    collecting.is_stopped("is not known yet")
    pi.sshd.known_hosts.write_text(run("ssh-keyscan", "-t", "ed25519", pi.sshd.address))
    collecting.is_done()


def test_a_key_that_is_revoked_meanwhile_is_one_line_and_accepted_again_it_goes_on(pi: Pi, collecting: Collecting) -> None:
    keys = pi.sshd.folder / "authorized_keys"
    accepted = keys.read_text()

    def revoke() -> None:
        keys.write_text("")
        pi.sshd.cut()

    with once(lambda: collecting.made >= 5, revoke):
        collecting.is_stopped("was lost while", least=5)
    collecting.is_stopped("does not take the key")
    keys.write_text(accepted)
    collecting.is_done()


def test_a_disk_that_is_full_or_fills_up_is_one_line_and_with_space_it_goes_on(pi: Pi, collecting: Collecting) -> None:
    pi.sshd.stop()  # started again, it sees what is mounted now
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", pi.place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine gives no tmpfs: {done.stderr.strip()}")
    pi.sshd.start()
    filling = pi.place / "filling"

    def fill(leaving_bytes: int) -> None:
        disk = os.statvfs(pi.place)
        with filling.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leaving_bytes)

    try:
        fill(4096)
        collecting.is_stopped("is full")
        filling.unlink()
        with once(lambda: collecting.made >= 5, lambda: fill(4096)):
            collecting.is_stopped("is full", least=5)
        filling.unlink()
        collecting.is_done()
        pi.assert_left_empty()
    finally:
        run("umount", "-l", pi.place)


def test_throttling_that_the_firmware_tells_is_waited_for(pi: Pi, collecting: Collecting) -> None:
    pi.vcgencmd("0x50000")  # what was once since boot does not count
    with once(lambda: collecting.made >= 5, lambda: pi.vcgencmd("0x50005")), once(lambda: collecting.discarded >= 2, lambda: pi.vcgencmd("0x50000")):
        collecting.is_done()


def test_a_clock_that_steps_changes_neither_what_is_measured_nor_its_order(pi: Pi, collecting: Collecting, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("making a clock step needs a C compiler (cc, gcc or clang)")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(STEPPING_CLOCK)
    run(compiler, "-shared", "-fPIC", "-O2", "-o", library, source)
    pi.program(pi.python, f'#!/bin/sh\nLD_PRELOAD={library} exec {sys.executable} "$@"\n')
    collecting.is_done()
    moments = collecting.moments()
    assert max(moments) - min(moments) > 9e17 and moments != sorted(moments), "the clock did step"
