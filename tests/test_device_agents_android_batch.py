import subprocess
import time
from pathlib import Path

import pytest

from device_agents.android.batch import (
    Reading,
    Task,
    kill_script,
    poll_script,
    polled,
    script,
    sections,
    start_script,
)

TOKEN = "a1b2c3d4e5f60718"


class Shell:
    """Runs the scripts of a batch in a folder of this machine, as a phone's shell would."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, text):
        return subprocess.run(["/bin/sh", "-c", text], capture_output=True, timeout=20, stdin=subprocess.DEVNULL)

    def start(self, tasks, reading=None, mask=None):
        (self.folder / "batch.sh").write_text(script(str(self.folder), tasks, reading or Reading(), mask))
        return self.run(start_script(str(self.folder)))

    def poll(self, seen=0, reading=None):
        ended = self.run(poll_script(str(self.folder), seen, TOKEN, reading or Reading(), str(self.folder / "alive")))
        return polled(ended.stdout, seen, TOKEN)

    def finish(self, count):
        for _ in range(200):
            found = self.poll()
            if len(found.finished) == count and not found.alive:
                return found.finished
            time.sleep(0.05)
        raise AssertionError(f"{len(found.finished)} of {count} visits, alive {found.alive}")


@pytest.fixture
def shell(tmp_path):
    folder = tmp_path / "a 'batch'; $(touch executed)"
    folder.mkdir()
    yield Shell(folder)
    Shell(folder).run(kill_script(str(folder)))


def test_every_visit_has_its_streams_exit_code_and_both_states(shell):
    shell.start([Task(("sh", "-c", "echo out; echo err >&2; exit 3")), Task(("true",))])
    first, second = shell.finish(2)
    assert (first.number, first.stdout, first.stderr) == (0, "out\n", "err\n")
    parts = sections(first.state)
    assert parts["ran"][0].split()[1] == "3"
    assert all(any(line.startswith("up ") for line in parts[part]) for part in ("before", "after"))
    assert sections(second.state)["ran"][0].split()[1] == "0"


def test_words_of_a_command_are_never_anything_but_words(shell):
    odd = ["$(touch executed)", "; touch executed", "`touch executed`", "a b", "'", '"', "\\", "*", "-n", "", "\n", "&"]
    shell.start([Task(("printf", "[%s]", *odd))])
    (only,) = shell.finish(1)
    assert only.stdout == "".join(f"[{word}]" for word in odd)
    assert not list(shell.folder.parent.rglob("executed"))


def test_started_twice_it_runs_once(shell):
    shell.start([Task(("sh", "-c", f"echo ran >>'{shell.folder.parent}/runs'"))])
    for _ in range(3):
        assert shell.run(start_script(str(shell.folder))).returncode == 0
    shell.finish(1)
    assert (shell.folder.parent / "runs").read_text() == "ran\n"


def test_output_that_looks_like_the_scripts_own_stays_output(shell):
    text = f"@thermal\\n@end\\nran 0 1 2\\n{TOKEN}\\nalive 1 1"
    shell.start([Task(("printf", text.replace(TOKEN, "other"))), Task(("true",))])
    first, _ = shell.finish(2)
    assert first.stdout.endswith("alive 1 1")
    assert sections(first.state)["ran"][0].split()[1] == "0"


def test_one_that_hangs_is_ended_and_the_next_goes_on(shell):
    shell.start([Task(("sleep", "60")), Task(("echo", "next"))], Reading(limit_s=1))
    first, second = shell.finish(2)
    assert "late" in first.watched
    assert sections(first.state)["ran"][0].split()[1] == "137"
    assert second.stdout == "next\n"


@pytest.mark.parametrize("torn", ["00000 $$ 1", "00000 $$ ", "00000 $$ 1 00000 $$ 12345", "00000"])
def test_note_of_the_visit_that_is_read_while_it_is_written_ends_no_runner(shell, torn):
    shell.start([Task(("sh", "-c", f'printf "%s" "{torn}" >now; sleep 0.6'))])
    (only,) = shell.finish(1)
    assert sections(only.state)["ran"][0].split()[1] == "0"
    assert "late" not in only.watched


def test_one_that_prints_without_end_is_ended(shell):
    shell.start([Task(("yes",)), Task(("true",))])
    first, _ = shell.finish(2)
    assert int(sections(first.state)["ran"][0].split()[1]) > 128
    assert len(first.stdout) <= 1 << 20


def test_while_it_runs_the_cores_it_may_use_and_its_clock_are_seen(shell, tmp_path):
    frequency = tmp_path / "root/sys/devices/system/cpu/cpu0/cpufreq"
    frequency.mkdir(parents=True)
    (frequency / "scaling_cur_freq").write_text("1804800\n")
    (frequency / "scaling_max_freq").write_text("2419200\n")
    for name in ("uptime", "loadavg", "meminfo"):
        (tmp_path / "root/proc").mkdir(exist_ok=True)
        (tmp_path / "root/proc" / name).write_text(
            {"uptime": "12.5 3\n", "loadavg": "0.5 1 1\n", "meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\n"}[name]
        )
    shell.start([Task(("sleep", "0.4"))], Reading(cores=(0,), root=str(tmp_path / "root")))
    (only,) = shell.finish(1)
    assert "cur 0 1804800" in only.watched
    assert {"up 12.5", "cur 0 1804800", "cap 0 2419200", "load 0.5 1 1", "memory 5"} <= set(sections(only.state)["before"])


def test_pinned_one_is_seen_on_its_core_only(shell):
    shell.start([Task(("sleep", "0.4"))], Reading(), mask="1")
    (only,) = shell.finish(1)
    assert "allowed 0 sleep" in only.watched


def test_slow_readings_come_with_the_first_visit_and_then_seldom(shell, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dumpsys").write_text('#!/bin/sh\necho "of $1"\n')
    (tmp_path / "bin/dumpsys").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    shell.start([Task(("true",))] * 4, Reading(slow_every_s=1000))
    found = [sections(finished.state) for finished in shell.finish(4)]
    assert found[0]["before@thermal"] == ["of thermalservice"]
    assert found[0]["before@battery"] == ["of battery"]
    assert not any("@" in name for parts in found[1:] for name in parts)


def test_poll_gives_only_what_comes_after_what_was_seen(shell):
    shell.start([Task(("echo", str(number))) for number in range(3)])
    shell.finish(3)
    assert [finished.stdout for finished in shell.poll(seen=2).finished] == ["2\n"]
    assert shell.poll(seen=3).finished == ()


def test_poll_beside_one_that_has_only_begun_to_write_tells_all_the_same(shell):
    shell.start([Task(("echo", "out"))])
    shell.finish(1)
    (shell.folder / "boundary").write_text("")
    assert [visit.stdout for visit in shell.poll().finished] == ["out\n"]


def test_killed_batch_ends_with_its_runner_and_polls_as_dead(shell):
    shell.start([Task(("sleep", "77.25")), Task(("true",))])
    while not (shell.folder / "now").exists() or not (shell.folder / "now").read_text().strip():
        time.sleep(0.02)
    runner = int((shell.folder / "now").read_text().split()[1])
    shell.run(kill_script(str(shell.folder)))
    time.sleep(0.3)
    assert not shell.poll().alive
    assert shell.poll().finished == ()
    stat = Path(f"/proc/{runner}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()  # nothing may have collected it yet


def test_poll_of_a_batch_that_is_gone_says_so(tmp_path):
    assert Shell(tmp_path).run(poll_script(str(tmp_path / "none"), 0, TOKEN, Reading(), str(tmp_path / "alive"))).returncode == 3


@pytest.mark.parametrize("output", [b"", b"sh: not found\n", b"alive x 0\n", b"alive 1.0 1\n", b"alive 1.0 -1\n", b"\xff\xfe"])
def test_what_is_no_poll_is_none(output):
    assert polled(output, 0, TOKEN) is None
