"""SshAgent against OpenSSH: several hosts, jump hosts, changed keys, full disks, and connections that end at any moment."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from scripted_agent import keys_of_blocks

pytest.importorskip("asyncssh")
from echo_agents import EVIL, echo, is_running, killed_afterwards, one_line, settings_read_by_a_shell, until
from echo_workers import misbehaving, visits
from real_sshd import network, one_sshd, run

from device_agents.base import DeviceError, DeviceUnreachable, VisitPlan, WorkerFailed
from device_agents.ssh import SshAgent
from device_agents.ssh_login import HostKeyRefused, LoginRefused
from luts.store import MeasurementStore
from profiler.measuring.collect import collect
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from supernets.spaces import space

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(600)]

PLANS = [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1), VisitPlan("q", ("m",), 1)]
ONE_NETWORK = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)})
FEW = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=1, chain_visits=1, network_visits=1, alone_runs=2, chain_cycles=2, network_runs=2)
MOMENTS = 20


@pytest.fixture
def sshd(tmp_path):
    with one_sshd(tmp_path / "device") as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """Where the device makes its private folders; nothing may stay in it."""
    place = tmp_path / "there"
    place.mkdir()
    yield place
    assert until(lambda: list(place.iterdir()) == []), list(place.iterdir())


# --- reaching ---------------------------------------------------------------------------------------------------------------


def test_a_device_is_checked_step_by_step_and_measured(sshd, folder):
    with echo(sshd, folder=str(folder)) as agent:
        found = {check.name: check for check in agent.checks()}
        assert list(found)[:7] == ["reachable", "host key", "login", "python", "folder", "runtime", "cores"]
        assert all(check.passed for check in list(found.values())[:7])
        assert [visit.plan_id for visit in visits(agent, PLANS)] == ["p", "q"]


def test_several_hosts_are_measured_side_by_side(tmp_path, folder):
    with network() as (net, make):
        agents = []
        for number in range(3):
            name = net.host()
            agents.append(echo(make(tmp_path / f"pi{number}", name, net.connect(name)[1]), folder=str(folder)))
        try:
            made = [agent.measure({"m": b"x"}, PLANS) for agent in agents]
            first = [next(iterator) for iterator in made]
            assert len({visit.worker for visit in first}) == 3
            assert [next(iterator).plan_id for iterator in made] == ["q"] * 3
        finally:
            for agent in agents:
                agent.close()


def test_a_host_that_only_the_jump_host_reaches_is_measured_through_it(tmp_path, folder, monkeypatch):
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with network() as (net, make):
        gate_name, board_name = net.host(), net.host()
        gate = make(tmp_path / "gate", gate_name, net.connect(gate_name)[1])
        board = make(tmp_path / "board", board_name, net.connect(board_name, to=gate_name)[1])
        (home / ".ssh/config").write_text(
            f"Host board\n  HostName {board.address}\n  User root\n  IdentityFile {board.key}\n  ProxyJump gate\n"
            f"Host gate\n  HostName {gate.address}\n  User root\n  IdentityFile {gate.key}\n"
        )
        (home / ".ssh/known_hosts").write_text(board.known_hosts.read_text() + gate.known_hosts.read_text())
        with SshAgent("board", host="board", runtime="echo", python=sys.executable, folder=str(folder)) as agent:
            assert len(visits(agent, PLANS)) == 2
            assert len(gate.sessions()) == len(board.sessions()) == 1
        gate.change_host_key(known=False)
        gate.stop()
        gate.start()
        with (
            SshAgent("board", host="board", runtime="echo") as agent,
            pytest.raises(HostKeyRefused, match="jump host 'gate' .* another one than before"),
        ):
            agent.info()


def test_a_changed_host_key_is_refused_until_the_user_removes_the_old_one(sshd, folder):
    with echo(sshd, folder=str(folder)) as agent:
        agent.info()
    sshd.change_host_key(known=False)
    sshd.stop()
    sshd.start()
    with echo(sshd, folder=str(folder)) as agent:
        with pytest.raises(HostKeyRefused) as caught:
            agent.info()
        assert "is another one than before" in one_line(caught)
        run("ssh-keygen", "-R", sshd.address, "-f", sshd.known_hosts)
        with pytest.raises(HostKeyRefused, match="is not known yet"):
            agent.info()


def test_a_host_key_of_another_kind_than_before_is_refused_as_a_changed_one(sshd, tmp_path):
    run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "other")
    sshd.known_hosts.write_text(f"{sshd.address} {(tmp_path / 'other.pub').read_text()}")
    with echo(sshd) as agent, pytest.raises(HostKeyRefused) as caught:
        agent.info()
    assert "is another one than before (ssh-ed25519 SHA256:" in one_line(caught)


def test_an_unknown_key_and_one_that_was_revoked_meanwhile_are_refused(sshd, folder):
    with echo(sshd, folder=str(folder)) as agent:
        agent.info()
        (sshd.folder / "authorized_keys").write_text("")
        assert len(visits(agent, PLANS)) == 2, "a login that stands is not taken back"
        sshd.cut()
        with pytest.raises(DeviceUnreachable):
            visits(agent, PLANS)
            visits(agent, PLANS)
        with pytest.raises(LoginRefused, match="does not take the key .*ssh-copy-id") as caught:
            agent.connection()
        one_line(caught)


def test_a_key_of_the_agent_is_used(sshd, folder, tmp_path, monkeypatch):
    if shutil.which("ssh-agent") is None or shutil.which("ssh-add") is None:
        pytest.skip("ssh-agent is not here (Debian: apt-get install openssh-client)")
    socket = tmp_path / "agent"
    monkeypatch.setenv("HOME", str(tmp_path))
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as running:
        try:
            assert until(socket.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            with echo(sshd, key=None, folder=str(folder)) as agent, pytest.raises(LoginRefused, match="any key of yours"):
                agent.info()
            run("ssh-add", "-q", sshd.key)
            with echo(sshd, key=None, folder=str(folder)) as agent:
                assert agent.info().runtime == "echo"
            locked = tmp_path / "locked"
            shutil.copy(sshd.key, locked)
            locked.chmod(0o600)
            run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked)
            with echo(sshd, key=str(locked), folder=str(folder)) as agent:
                assert agent.info().runtime == "echo", "the agent has the key whose file is locked"
        finally:
            running.terminate()


# --- what is lost -------------------------------------------------------------------------------------------------------------


def everything(path: Path) -> dict[str, tuple]:
    """What a file holds, by visit of the plan; samples of one subject twice would be one more entry."""
    found: dict[str, tuple] = {}
    with MeasurementStore(path, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind, include_discarded=True):
                found[visit.plan_id] = (*found.get(visit.plan_id, ()), subject.key, tuple(samples.tolist()))
    return found


class Cut:
    """Cuts the connections once: some time after now, or in or just after the visit that follows this many."""

    def __init__(self, sshd, rng: random.Random, after_visits: int | None) -> None:
        self._left = after_visits
        self._timer = threading.Timer(rng.uniform(0.05, 3.0) if after_visits is None else rng.uniform(0.0, 0.1), sshd.cut)
        if after_visits is None:
            self._timer.start()

    def progress(self, done: int, of: int) -> None:
        if self._left == 0:
            self._timer.start()
        self._left = None if self._left is None else self._left - 1

    def join(self) -> None:
        if self._timer.ident is not None:
            self._timer.join()


def test_a_connection_that_is_cut_at_any_moment_loses_nothing_and_measures_nothing_twice(sshd, folder, tmp_path):
    plan = make_plan(ONE_NETWORK, FEW, 0)
    packed = misbehaving(tmp_path / "altered", "time.sleep(0.02)")
    rng = random.Random(20)
    errors: list[str] = []
    planned = {visit.id: sorted(visit.subjects) for part in plan.rounds for visit in part.visits}

    def go_on(path: Path, progress=None) -> bool:
        with MeasurementStore(path) as store, echo(sshd, folder=str(folder), worker_archive=packed) as agent:
            return collect(ONE_NETWORK, agent, store, plan, model_maker=keys_of_blocks, progress=progress).complete

    number, seen = 0, {}
    while len(errors) < MOMENTS:
        path = tmp_path / f"{number}.lut"
        cut = Cut(sshd, rng, after_visits=rng.randrange(len(planned)) if len(errors) % 2 else None)
        try:
            if go_on(path, cut.progress):
                number, seen = number + 1, {}
                continue
        except DeviceError as error:
            errors.append(str(error))
        finally:
            cut.join()
        kept, seen = seen, everything(path) if path.exists() else {}
        assert kept.items() <= seen.items(), "what was measured stays as it was"
    for path in sorted(tmp_path.glob("*.lut")):
        assert go_on(path)
        assert {name: sorted(found[::2]) for name, found in everything(path).items()} == planned
    assert all(len(error.splitlines()) == 1 for error in errors)
    assert sum("was lost while running visit" in error for error in errors) >= 3, Counter(errors)


def test_a_host_that_is_killed_leaves_neither_worker_nor_folder(sshd, folder):
    with killed_afterwards(sshd, folder=str(folder)) as pid:
        assert is_running(pid) and len(list(folder.iterdir())) == 1
    assert until(lambda: not is_running(pid))


def test_a_worker_that_hangs_is_killed_on_the_device(sshd, folder, tmp_path):
    mark = tmp_path / "pid"
    packed = misbehaving(tmp_path / "altered", f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(300)")
    with (
        echo(sshd, folder=str(folder), worker_archive=packed, timeout_s=1.0) as agent,
        pytest.raises(WorkerFailed, match="did not answer within 1 s"),
    ):
        visits(agent, PLANS)
    assert until(lambda: not is_running(int(mark.read_text())))


# --- what a device lacks ------------------------------------------------------------------------------------------------------


def test_a_folder_that_the_user_may_not_write_is_refused(sshd):
    with echo(sshd, folder="/proc") as agent, pytest.raises(DeviceError, match="cannot make a folder in /proc"):
        agent.info()


@pytest.mark.parametrize("evil", EVIL)
def test_no_setting_is_ever_read_by_the_device_s_shell(sshd, tmp_path, evil):
    assert settings_read_by_a_shell(sshd, tmp_path, evil) == []
