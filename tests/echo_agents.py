"""SshAgents whose worker there runs no model (the runtime `echo`), and what is seen of it from here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from echo_workers import ALONE, visits

from device_agents import archive
from device_agents.base import DeviceError, VisitPlan
from device_agents.ssh import SshAgent

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


# --- what is seen ---------------------------------------------------------------------------------------------------------


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
