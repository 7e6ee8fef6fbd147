"""SshAgents whose worker there runs no model (the runtime `echo`), what such a worker can be made to do instead, and what is seen of it from here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from device_agents import archive
from device_agents.base import DeviceError, Visit, VisitPlan
from device_agents.ssh import SshAgent

ALONE = [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1)]
TWO = [*ALONE, VisitPlan("q", ("m",), 1)]
# Each would write the file `mark` if a shell on the way read it as more than a name.
EVIL = [
    "$(touch {mark})",
    "`touch {mark}`",
    "x; touch {mark} #",
    "' ; touch {mark} ; '",
    '" ; touch {mark} ; "',
    "x & touch {mark}",
    "x | touch {mark}",
]
KILLED_LATER = """
import time
from device_agents.base import VisitPlan
from device_agents.ssh import SshAgent
iterator = SshAgent('pi', **{settings!r}).measure({{'m': b'x'}}, [VisitPlan('p', ('m',), 1), VisitPlan('q', ('m',), 1)])
print(next(iterator).worker, flush=True)
time.sleep(60)
"""


def echo(server: Any, **settings: Any) -> SshAgent:
    """Return an agent of a server's."""
    return SshAgent("pi", **server.settings(**{"runtime": "echo", "python": sys.executable, **settings}))


def visits(agent: SshAgent, plans: Sequence[VisitPlan] = ALONE) -> list[Visit]:
    return list(agent.measure({"m": b"x"}, plans))


def altered_archive(folder: Path, module: str, old: str, new: str) -> bytes:
    """Return the worker's archive with a part of its source replaced; `folder` must not exist yet."""
    folder.mkdir()
    for source in archive.ON_DEVICE.glob("*.py"):
        text = source.read_text()
        if source.name == module:
            assert old in text
            text = text.replace(old, new)
        (folder / source.name).write_text(text)
    return archive.pack(folder)


def misbehaving(folder: Path, body: str) -> bytes:
    """Return an archive whose echo runtime does something else when it runs a model."""
    lines = "".join(f"    {line}\n" for line in ("import os, signal, sys, time", *body.splitlines()))
    return altered_archive(folder, "runtime_echo.py", "def _nothing() -> None:\n    pass\n", f"def _nothing() -> None:\n{lines}")


# --- what is seen ---------------------------------------------------------------------------------------------------------


def worker_pid(visit: Visit) -> int:
    return int(visit.worker.partition("-")[0])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def when(begun: Path, action: Callable[[], object]) -> threading.Thread:
    """Do something once a visit is under way, which writes this file."""
    waiting = threading.Thread(target=lambda: until(begun.exists, 60) and action())
    waiting.start()
    return waiting


def one_line(caught: Any) -> str:
    """Return the text of an error that was raised."""
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


@contextlib.contextmanager
def killed_afterwards(server: Any, **settings: Any) -> Iterator[int]:
    """Measure in a process of its own, which is killed at the end; gives its worker's number."""
    program = KILLED_LATER.format(settings=server.settings(runtime="echo", python=sys.executable, **settings))
    environment = {**os.environ, "PYTHONPATH": str(Path(archive.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as host:
        assert host.stdout is not None
        yield int(host.stdout.readline().partition("-")[0])
        host.send_signal(signal.SIGKILL)


def settings_read_by_a_shell(server: Any, folder: Path, evil: str) -> list[Path]:
    """Give such a text to each setting that becomes a word of a command there, and to a folder; returns what was executed."""
    mark = folder / "executed"
    text = evil.format(mark=mark)
    for settings in ({"python": text}, {"folder": text}, {"folder": f"~/{text}"}, {"venv": text, "python": None}):
        with echo(server, **settings) as agent, contextlib.suppress(DeviceError):
            agent.info()
    there = folder / text.replace("/", "_")
    there.mkdir()
    (there / "python").symlink_to(sys.executable)
    with echo(server, folder=str(there), python=str(there / "python")) as agent:
        assert len(visits(agent)) == 1
    return [*folder.rglob("executed")]
