"""`profiler collect` on a device that something happens to, or killed: nothing is lost, and the same command goes on to a whole table."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from device_runs import COMMAND, RESOLUTION, SPACE, assert_table, refused, typed, visits_of

from luts.store import MeasurementStore

KILLS = 10
Visits = dict[tuple[str, str], tuple[int, ...]]


@dataclass
class Collecting:
    """One table of one device, and the command that fills it, typed again and again; `modes` are those of its blocks."""

    capsys: pytest.CaptureFixture[str]
    device: str
    table: Path
    modes: tuple[str, ...]
    words: tuple[object, ...] = ()
    seen: Visits = field(default_factory=dict)

    @property
    def command(self) -> tuple[object, ...]:
        """What is typed."""
        return ("collect", "--device", self.device, "--space", SPACE, "--resolutions", RESOLUTION, "--preset", "quick", "--rounds", 1,
                "--out", self.table, *self.words)  # fmt: skip

    @property
    def made(self) -> int:
        """How many visits are in the table, read while it is written."""
        return self._count("*")

    @property
    def discarded(self) -> int:
        """How many of them do not count."""
        return self._count("discarded")

    @property
    def plans(self) -> set[str]:
        """The visits of which the table has the samples of one subject or more."""
        return {plan_id for plan_id, _ in self.seen}

    def moments(self) -> list[int]:
        """Return when the device says that its visits began, in the order in which they were made."""
        with MeasurementStore(self.table, read_only=True) as store:
            made = [visit for kind in ("block", "network") for _, visit, _ in store.samples(kind)]
        return [visit.state_before["unix_time_ns"] for visit in sorted(made, key=lambda visit: visit.number)]

    def _count(self, what: str) -> int:
        if not self.table.exists():
            return 0
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(f"file:{self.table}?mode=ro", uri=True)) as reading:
            return int(reading.execute(f"SELECT count({what}) FROM visits").fetchone()[0])
        return 0

    def is_stopped(self, said: str, least: int = 0) -> str:
        """Type it; it must end in one line that says this, with at least so many visits more in the table. Returns the line."""
        before = len(self.seen)
        line = refused(self.capsys, *self.command, ends_with=1)
        assert said in line, (said, line)
        self._nothing_lost()
        assert len(self.seen) >= before + least, (said, before, len(self.seen))
        return line

    def is_done(self, **condition: object) -> Visits:
        """Type it; the table must be whole then. Returns its visits, each with its samples."""
        typed(self.capsys, *self.command)
        self._nothing_lost()
        assert_table(self.table, self.modes, device=self.device, **condition)
        assert "nothing to do" in "".join(typed(self.capsys, *self.command))
        return self.seen

    def _nothing_lost(self) -> None:
        found = visits_with_samples(self.table) if self.table.exists() else {}
        assert self.seen.items() <= found.items(), "what was measured stays as it was"
        self.seen = found


def killed_again_and_again(begun: Callable[[], object], longest_s: float, table: Path, *words: object) -> None:
    """Run a command that fills a table, and kill it at moments up to so long after it began; no visit may be lost by that."""
    rng = random.Random(4)
    kept: dict[str, None] = {}
    for _ in range(KILLS):
        command = [*COMMAND, *(str(word) for word in words)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as collecting:
            end = time.monotonic() + 60
            while not begun() and collecting.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, longest_s))
            collecting.send_signal(signal.SIGKILL)
            said = collecting.stderr.read().decode() if collecting.stderr else ""
            assert collecting.wait() in (-signal.SIGKILL, 0), said
        seen = dict.fromkeys(visits_of(table)) if table.exists() else {}
        assert kept.keys() <= seen.keys(), "what was measured stays"
        kept = seen


def visits_with_samples(table: Path) -> Visits:
    """Return the samples of each visit of each subject; none may be there twice."""
    found: Visits = {}
    with MeasurementStore(table, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind, include_discarded=True):
                of = f"{visit.number}" if visit.discarded else visit.plan_id
                assert (of, subject.key) not in found, f"{visit.plan_id} was measured twice"
                found[of, subject.key] = tuple(samples.tolist())
    return found


@contextlib.contextmanager
def once(condition: Callable[[], bool], action: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as a condition holds, beside what is done here meanwhile; it must have come to that."""
    ended = threading.Event()
    came: list[object] = []

    def wait() -> None:
        while not ended.is_set() and not condition():
            time.sleep(0.02)
        if not ended.is_set():
            came.append(action())

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield
    finally:
        ended.set()
        waiting.join()
    assert came, "it did not come to what was to happen meanwhile"
