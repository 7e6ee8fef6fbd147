"""SshAgent against a real SSH server in this process: the contract, its settings, measuring, and what is left behind."""

from __future__ import annotations

import os
import sys

import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

pytest.importorskip("asyncssh")
from echo_agents import TWO, echo, is_running, killed_afterwards, one_line, until, when
from echo_workers import misbehaving, visits, worker_pid
from ssh_server import clean_ssh_server

from device_agents.base import DeviceError, DeviceUnreachable, WorkerFailed
from device_agents.ssh import SshAgent


@pytest.fixture
def server(tmp_path):
    """Give a server that a login reaches with `server.settings()`, and check that nothing of ours stays on it."""
    with clean_ssh_server(tmp_path) as running:
        yield running


class TestOnnxRuntimeOverSsh(AgentContract):
    @pytest.fixture
    def agent(self, server):
        pytest.importorskip("onnxruntime")
        return SshAgent("pi", **server.settings(python=sys.executable))

    @pytest.fixture
    def models(self):
        pytest.importorskip("onnx")
        from supernets.export.onnx_graph import onnx_model

        return {name: onnx_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("raspberrypi4", ("raspberrypi4", None, None)),
        ("pi@192.168.1.30", ("192.168.1.30", None, "pi")),
        ("pi@board.local:2222", ("board.local", 2222, "pi")),
        ("[fe80::1%eth0]:2222", ("fe80::1%eth0", 2222, None)),
        ("fe80::1", ("fe80::1", None, None)),
        ("pi@[::1]", ("::1", None, "pi")),
    ],
)
def test_a_host_may_be_written_as_for_ssh(host, expected):
    found = SshAgent("pi", host=host).host
    assert (found.name, found.port, found.user) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": ""}, "host is ''"),
        ({"host": "-oProxyCommand=sh"}, "host is '-oProxyCommand=sh'"),
        ({"host": "a;b"}, "host is 'a;b'; expected a name or address of letters"),
        ({"host": "a b"}, "host is 'a b'"),
        ({"host": "$(id)@a"}, "user is '\\$\\(id\\)'"),
        ({"host": "pi@a", "user": "pi"}, "host 'pi@a' has a user, and user is 'pi'"),
        ({"host": "a:22", "port": 22}, "host 'a:22' has a port, and port is 22"),
        ({"host": "a", "port": 0}, "port is 0"),
        ({"host": "a:99999"}, "port is 99999"),
        ({"host": "a", "key": ""}, "key is ''"),
        ({"host": "a", "python": "-c"}, "python is '-c'"),
        ({"host": "a", "python": "x\ny"}, "python is 'x\\\\ny'"),
        ({"host": "a", "folder": ""}, "folder is ''"),
        ({"host": "a", "threads": 0}, "threads is 0"),
        ({"host": "a", "runtime": "tensorrt"}, "unknown runtime 'tensorrt'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        SshAgent("pi", **settings)


def test_nothing_is_connected_before_it_is_needed():
    SshAgent("pi", host="nowhere.invalid").close()


def test_without_asyncssh_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(ImportError, match=r"reaching a device over SSH needs the package 'asyncssh'; .*elastic-latency\[ssh\]"):
        SshAgent("pi", host="a").info()


# --- measuring ------------------------------------------------------------------------------------------------------------


def test_the_last_allowed_cores_of_the_device_are_the_default_and_none_means_not_pinned(server):
    with echo(server) as agent:
        assert agent.info().cores == (max(os.sched_getaffinity(0)),)
    with echo(server, cores=[]) as agent:
        assert agent.info().cores == ()


def test_one_connection_and_one_program_serve_all_workers_and_a_folder_of_its_own_is_gone_afterwards(server, tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    with echo(server, folder=str(chosen)) as agent:
        first, second = visits(agent), visits(agent)
        (folder,) = chosen.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {file.name for file in folder.iterdir()} == {"lock", "file1"}, "models are removed once they are loaded"
    assert worker_pid(first[0]) != worker_pid(second[0])
    assert len(server.connections) == 1
    assert until(lambda: list(chosen.iterdir()) == [])


def test_paths_may_begin_in_the_home_of_the_device(server):
    (server.home / "there").mkdir()
    (server.home / "python").symlink_to(sys.executable)
    with echo(server, folder="~/there", python="~/python") as agent:
        assert agent.remote_folder().path.startswith(str((server.home / "there").resolve()))


def test_the_virtual_environment_of_the_bootstrap_is_used_where_it_exists(server):
    with echo(server, python=None) as agent:
        assert agent.python_there() == "python3"
        (server.home / ".elastic-latency/venv/bin").mkdir(parents=True)
        (server.home / ".elastic-latency/venv/bin/python").symlink_to(sys.executable)
        assert agent.python_there() == f"{server.home.resolve()}/.elastic-latency/venv/bin/python"


def test_leaving_the_agent_ends_a_worker_in_use(server):
    with echo(server) as agent:
        iterator = agent.measure({"m": b"x"}, TWO)
        pid = worker_pid(next(iterator))
        assert is_running(pid)
    assert until(lambda: not is_running(pid))
    with pytest.raises(WorkerFailed, match="was closed before running visit 'q'"):
        next(iterator)


def test_a_worker_that_ends_tells_its_status_and_last_words(server, tmp_path):
    packed = misbehaving(tmp_path / "altered", "os.write(2, b'assertion failed in kernel\\n')\nos._exit(3)")
    with echo(server, worker_archive=packed) as agent, pytest.raises(WorkerFailed) as caught:
        visits(agent)
    assert "worker of device 'pi' ended with exit status 3 while running visit 'p'; its stderr ended: assertion failed in kernel" in one_line(caught)


def test_a_worker_that_is_killed_and_one_that_hangs_are_told_apart(server, tmp_path):
    dies = "if os.path.exists(os.environ['HOME'] + '/die'):\n    os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)"
    packed = misbehaving(tmp_path / "altered", dies)
    with echo(server, worker_archive=packed, timeout_s=1.0) as agent:
        with pytest.raises(WorkerFailed, match="did not answer within 1 s while running visit 'p'; raise timeout_s"):
            visits(agent)
        (server.home / "die").touch()
        with pytest.raises(WorkerFailed, match="was killed by SIGKILL while running visit 'p'"):
            visits(agent)


def test_closing_from_another_thread_ends_a_visit_with_one_clear_line(server, tmp_path):
    agent = echo(server, worker_archive=misbehaving(tmp_path / "altered", "open(os.environ['HOME'] + '/begun', 'w').close()\ntime.sleep(60)"))
    agent.info()
    closing = when(server.home / "begun", agent.close)
    with pytest.raises(DeviceError, match="was closed while running visit 'p'|was killed by SIG|was lost while") as caught:
        visits(agent)
    closing.join()
    one_line(caught)


def test_an_interrupt_during_a_visit_ends_the_worker(server, tmp_path):
    interrupts = f"os.kill({os.getpid()}, signal.SIGINT)\ntime.sleep(60)"
    packed = misbehaving(tmp_path / "altered", f"open(os.environ['HOME'] + '/pid', 'w').write(str(os.getpid()))\n{interrupts}")
    with pytest.raises(KeyboardInterrupt), echo(server, worker_archive=packed) as agent:
        visits(agent)
    assert until(lambda: not is_running(int((server.home / "pid").read_text())))


def test_a_connection_that_is_cut_in_a_visit_is_one_clear_line_and_the_agent_connects_anew(server, tmp_path):
    begins = "home = os.environ['HOME']\nopen(home + '/begun', 'w').close()\n"
    packed = misbehaving(tmp_path / "altered", f"{begins}time.sleep(0.0 if os.path.exists(home + '/on') else 30)")
    with echo(server, worker_archive=packed) as agent:
        agent.info()
        cutting = when(server.home / "begun", server.cut)
        with pytest.raises(DeviceUnreachable, match="connection to device 'pi' .* was lost while running visit 'p'.*run the same command") as caught:
            visits(agent)
        cutting.join()
        one_line(caught)
        (server.home / "on").touch()
        assert len(visits(agent)) == 1
    assert len(server.connections) == 2


def test_a_host_that_is_killed_leaves_no_worker_and_no_folder_on_the_device(server, tmp_path):
    with killed_afterwards(server) as pid:
        assert is_running(pid) and len(list(tmp_path.glob("elastic-latency-*"))) == 1
    assert until(lambda: not is_running(pid))
    assert until(lambda: list(tmp_path.glob("elastic-latency-*")) == [])


def test_folders_whose_keepers_were_killed_are_removed_by_the_next(server, tmp_path):
    left = tmp_path / "elastic-latency-left"
    left.mkdir()
    (left / "lock").touch()
    os.utime(left, (1, 1))
    with echo(server) as agent:
        agent.info()
        assert not left.exists()
