"""Bringing the runner to where it is started, and proving that it starts, and that a process stays on the cores it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_agents.android import runner as runners
from device_agents.android.clusters import listed, mask, parse_list
from device_agents.android.runner import Runner
from device_agents.android.session import Session
from device_agents.android.transport import words
from device_agents.base import DeviceError, RuntimeMissing

TRY_TIMEOUT_S = 30.0
# Started without a model a runner ends at once, whatever its exit code; one that does not is ended.
TRY = """({command}) </dev/null >/dev/null &
runner=$!
(sleep 10; kill -9 "$runner") >/dev/null 2>&1 &
watcher=$!
wait "$runner"; code=$?
kill -9 "$watcher"
exit "$code"
"""


@dataclass(frozen=True)
class Placed:
    """A runner on the phone."""

    path: str
    sha256: str
    machine: str | None


def place(session: Session, runner: Runner, device: str, abis: Sequence[str], try_it: bool = True) -> Placed:
    """Return where the runner is on the phone, after it was pushed if its file is here; `try_it` starts it once, without a model.

    Raises:
        RuntimeMissing: it is not there, or the phone cannot run it.
        DeviceError: the phone does not take it.
    """
    if runner.file is None:
        placed = _there(session, runner, device)
    else:
        program = runners.read(runner, device)
        path = session.push(f"bin/{runner.name}", program, 0o755)
        placed = Placed(path, runners.sha256_of(program), runners.machine_of(program))
    if try_it:
        ended = session.shell(TRY.format(command=words([placed.path, "--help"])), TRY_TIMEOUT_S)
        said = ended.stderr.decode(errors="replace")
        error = runners.not_runnable(runner, device, ended.exit_code, said, placed.machine, abis)
        if error is not None:
            raise error
    return placed


def _there(session: Session, runner: Runner, device: str) -> Placed:
    name = words([runner.path])
    found = session.shell(f"[ -f {name} ] || exit 1\nsha256sum {name} 2>/dev/null")
    if found.exit_code == 1 and not found.text:
        raise RuntimeMissing(runners.missing(runner, device, "no such file on the phone"))
    sha256 = found.text.split(" ", 1)[0].strip().lower()
    if len(sha256) != 64:  # Android before 8 has no sha256sum
        program = session.again(lambda: session.transport.pull(runner.path))
        return Placed(runner.path, runners.sha256_of(program), runners.machine_of(program))
    return Placed(runner.path, sha256, None)


def confirm_cores(session: Session, cores: Sequence[int], device: str) -> None:
    """Prove that a process pinned to these cores is on them.

    Raises:
        DeviceError: the phone refuses them, or has a process on others.
    """
    if not cores:
        return
    ended = session.shell(f"taskset {mask(cores)} cat /proc/self/status")
    allowed = next((line.split(":", 1)[1] for line in ended.text.splitlines() if line.startswith("Cpus_allowed_list:")), "")
    confirmed = parse_list(allowed)
    if ended.exit_code or confirmed != tuple(sorted(cores)):
        said = ended.stderr.decode(errors="replace").strip()[-200:] or f"it allows {listed(confirmed) if confirmed else 'none'}"
        raise DeviceError(f"device {device!r} does not give a process the cores {listed(cores)} ({said}); set other cores, or cores = [] not to pin")
