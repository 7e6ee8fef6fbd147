"""SshAgent against a real SSH server in this process: the contract, what a login needs, what a device lacks, and what is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

asyncssh = pytest.importorskip("asyncssh")
from ssh_server import ssh_server  # noqa: E402

from device_agents import archive  # noqa: E402
from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing, VisitPlan, WorkerFailed  # noqa: E402
from device_agents.ssh import SshAgent  # noqa: E402
from device_agents.ssh_folder import STARTER, FolderRefused, PythonUnfit  # noqa: E402
from device_agents.ssh_login import HostKeyRefused, LoginRefused  # noqa: E402

ALONE = [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1)]
TWO = [*ALONE, VisitPlan("q", ("m",), 1)]


@pytest.fixture
def server(tmp_path):
    """Give a server that a login reaches with `server.settings()`, and check that nothing of ours stays on it."""
    with ssh_server(tmp_path) as running:
        yield running
    gc.collect()
    assert list(tmp_path.glob("elastic-latency-*")) == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give the .ssh folder of a user of this side who has nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / "user" / ".ssh"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def altered(tmp_path):
    """Give a maker of archives in which a part of the worker's source is replaced."""

    def make(module: str, old: str, new: str) -> bytes:
        folder = tmp_path / "altered"
        folder.mkdir()
        for source in archive.ON_DEVICE.glob("*.py"):
            text = source.read_text()
            if source.name == module:
                assert old in text
                text = text.replace(old, new)
            (folder / source.name).write_text(text)
        return archive.pack(folder)

    return make


@pytest.fixture
def misbehaving(altered):
    """Give a maker of archives whose echo runtime does something else when it runs a model."""

    def make(body: str) -> bytes:
        lines = "".join(f"    {line}\n" for line in ("import os, signal, sys, time", *body.splitlines()))
        return altered("runtime_echo.py", "def _nothing() -> None:\n    pass\n", f"def _nothing() -> None:\n{lines}")

    return make


def echo(server, **settings) -> SshAgent:
    return SshAgent("pi", **server.settings(**{"runtime": "echo", "python": sys.executable, **settings}))


def visits(agent, plans=ALONE):
    return list(agent.measure({"m": b"x"}, plans))


def worker_pid(visit) -> int:
    return int(visit.worker.partition("-")[0])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def when(begun: Path, action) -> threading.Thread:
    """Do something once a visit is under way, which writes this file."""
    waiting = threading.Thread(target=lambda: until(begun.exists, 60) and action())
    waiting.start()
    return waiting


def one_line(caught) -> str:
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


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


# --- login ----------------------------------------------------------------------------------------------------------------


def test_a_host_key_that_is_not_known_is_refused_and_the_text_says_how_to_add_it(server, tmp_path):
    server.known_hosts.unlink()
    with echo(server, user="someone") as agent, pytest.raises(HostKeyRefused) as caught:
        agent.info()
    text = one_line(caught)
    assert "the host key of device 'pi'" in text and "is not known yet (ssh-ed25519 SHA256:" in text
    assert f"ssh -p {server.port} -i {server.key} -o UserKnownHostsFile={server.known_hosts} someone@127.0.0.1" in text


def test_a_host_key_that_changed_is_refused_and_the_text_says_what_to_do(server):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
    with echo(server) as agent, pytest.raises(HostKeyRefused) as caught:
        agent.info()
    text = one_line(caught)
    assert "is another one than before (ssh-ed25519 SHA256:" in text
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {server.known_hosts}" in text


def test_a_host_key_of_another_kind_than_before_is_refused(server):
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
    with echo(server) as agent, pytest.raises(HostKeyRefused, match="is another one than before: the server has no host key of the kind") as caught:
        agent.info()
    one_line(caught)


def test_a_revoked_host_key_is_refused(server):
    server.known_hosts.write_text("@revoked " + server.known_hosts.read_text())
    with echo(server) as agent, pytest.raises(HostKeyRefused, match="revoked"):
        agent.info()


def test_no_line_of_the_ssh_config_turns_the_check_of_host_keys_off(server, home):
    (home / "config").write_text(f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  IdentityFile {server.key}\n"
                                 "  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")  # fmt: skip
    with SshAgent("pi", host="board", runtime="echo") as agent, pytest.raises(HostKeyRefused, match="is not known yet"):
        agent.info()


def test_names_users_ports_keys_and_known_hosts_of_the_ssh_config_count(server, home):
    (home / "config").write_text(f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  IdentityFile {server.key}\n  User somebody\n"
                                 f"  UserKnownHostsFile {server.known_hosts}\n")  # fmt: skip
    with SshAgent("pi", host="board", runtime="echo", python=sys.executable) as agent:
        assert agent.connection().user == "somebody"
        assert len(visits(agent)) == 1


def test_the_user_s_own_known_hosts_are_the_default(server, home):
    (home / "known_hosts").write_text(server.known_hosts.read_text())
    with echo(server, known_hosts=None) as agent:
        assert agent.info().runtime == "echo"


def test_a_key_that_the_device_does_not_know_is_refused(server, tmp_path):
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(other))
    other.chmod(0o600)
    with echo(server, key=str(other), user="pi") as agent, pytest.raises(LoginRefused) as caught:
        agent.info()
    assert f"does not take the key {other} for the user 'pi'" in one_line(caught) and "ssh-copy-id" in str(caught.value)


def test_keys_that_cannot_be_used_are_named_before_anything_is_sent(server, tmp_path):
    server.key.chmod(0o644)
    with echo(server) as agent, pytest.raises(DeviceUnreachable, match=f"private key {server.key} .* can be read by others; chmod 600"):
        agent.info()
    with (
        echo(server, key="/nowhere/key") as agent,
        pytest.raises(DeviceUnreachable, match="private key /nowhere/key .* cannot be read: No such file"),
    ):
        agent.info()
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    rubbish.chmod(0o600)
    with echo(server, key=str(rubbish)) as agent, pytest.raises(DeviceUnreachable, match="private key .*rubbish .* cannot be used"):
        agent.info()
    assert server.connections == []


def test_a_key_with_a_passphrase_needs_the_agent(server, tmp_path, home):
    locked = tmp_path / "locked"
    asyncssh.read_private_key(str(server.key)).write_private_key(str(locked), "pkcs8-pem", passphrase="secret")
    locked.chmod(0o600)
    with echo(server, key=str(locked)) as agent, pytest.raises(DeviceUnreachable, match=f"has a passphrase and no agent runs; .*ssh-add {locked}"):
        agent.info()


def test_a_host_where_nothing_listens_is_unreachable(server):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with (
            echo(server, port=free.getsockname()[1]) as agent,
            pytest.raises(DeviceUnreachable, match="cannot be reached: .*listens there") as caught,
        ):
            agent.info()
    one_line(caught)
    with SshAgent("pi", host="nowhere.invalid", runtime="echo") as agent, pytest.raises(DeviceUnreachable, match="no address that is known here"):
        agent.info()


def test_jump_hosts_of_the_ssh_config_are_passed_through_and_checked(server, home, tmp_path):
    for name in ("gate", "inner"):
        (tmp_path / name).mkdir()
    with ssh_server(tmp_path / "gate", forwards=True) as gate, ssh_server(tmp_path / "inner", forwards=True) as inner:
        (home / "config").write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  IdentityFile {server.key}\n  ProxyJump someone@gate,inner\n"
            f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.key}\n  UserKnownHostsFile none\n"
            f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  IdentityFile {inner.key}\n"
        )
        known = server.known_hosts.read_text()
        with SshAgent("pi", host="board", runtime="echo", python=sys.executable) as agent:
            for name, jump in (("someone@gate", gate), ("inner", inner)):
                (home / "known_hosts").write_text(known)
                with pytest.raises(HostKeyRefused, match=f"the host key of jump host '{name}' of device 'pi' .* is not known yet"):
                    agent.info()
                known += jump.known_hosts.read_text()
            (home / "known_hosts").write_text(known)
            assert len(visits(agent)) == 1
        assert len(inner.connections) == 2 and gate.commands == inner.commands == []


# --- what a device lacks --------------------------------------------------------------------------------------------------


def test_python_that_is_not_there_is_one_clear_line(server):
    with echo(server, python="python3.99") as agent, pytest.raises(PythonUnfit) as caught:
        agent.info()
    assert "has no 'python3.99'" in one_line(caught) and "set `python` of the device" in str(caught.value)
    with echo(server, python="/etc/passwd") as agent, pytest.raises(PythonUnfit, match="cannot run '/etc/passwd' .*Permission denied"):
        agent.info()
    with echo(server, python="/bin/cat") as agent, pytest.raises(PythonUnfit, match="'/bin/cat' .* does not run our program"):
        agent.info()


def script(file: Path, text: str) -> str:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_python_that_is_too_old_says_its_version(server, tmp_path):
    older = script(tmp_path / "older", f"exec {sys.executable} -c 'import sys; sys.version_info = (3, 7, 3); exec(sys.argv[3])' \"$@\"")
    with echo(server, python=older) as agent, pytest.raises(PythonUnfit, match="of Python 3.7; expected 3.9 or later") as caught:
        agent.info()
    one_line(caught)


def test_what_the_device_runs_first_means_something_to_any_shell_and_any_python():
    assert "'" not in STARTER and "\n" not in STARTER and "!" not in STARTER


def test_numpy_that_is_missing_is_one_clear_line_and_says_what_installs_it(server, tmp_path):
    bare = script(tmp_path / "bare", f'exec {sys.executable} -S "$@"')
    with (
        echo(server, python=bare, runtime="onnxruntime") as agent,
        pytest.raises(RuntimeMissing, match="has no numpy for .*--bootstrap pi") as caught,
    ):
        agent.info()
    one_line(caught)
    with echo(server, python=bare) as agent:
        assert agent.info().runtime == "echo"


def test_a_runtime_that_is_missing_is_one_clear_line_and_says_what_installs_it(server, altered):
    packed = altered("runtime_onnxruntime.py", "import onnxruntime", "import onnxruntime_that_is_missing as onnxruntime")
    with echo(server, runtime="onnxruntime", worker_archive=packed) as agent, pytest.raises(RuntimeMissing, match="package 'onnxruntime'") as caught:
        agent.info()
    assert one_line(caught).endswith("; or let this do it: profiler devices --bootstrap pi")


def test_folders_that_cannot_be_written_are_refused(server):
    for folder in ("/proc", "/nowhere"):
        with echo(server, folder=folder) as agent, pytest.raises(FolderRefused, match=f"cannot make a folder in {folder}: .*set `folder`") as caught:
            agent.info()
        one_line(caught)


def test_a_shell_that_prints_by_itself_and_one_without_sftp_are_named(tmp_path):
    for name, settings, message in (("loud", {"before": "echo Welcome; "}, "Welcome"), ("bare", {"sftp": False}, "SFTP")):
        (tmp_path / name).mkdir()
        with ssh_server(tmp_path / name, **settings) as server, echo(server) as agent, pytest.raises(DeviceError, match=message) as caught:
            agent.info()
        one_line(caught)


def test_more_threads_than_cores_is_an_error_that_names_the_cores(server):
    with echo(server, threads=4000) as agent, pytest.raises(DeviceError, match=r"device 'pi': threads is 4000, but this process may use only"):
        agent.info()


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


def test_a_worker_that_ends_tells_its_status_and_last_words(server, misbehaving):
    packed = misbehaving("os.write(2, b'assertion failed in kernel\\n')\nos._exit(3)")
    with echo(server, worker_archive=packed) as agent, pytest.raises(WorkerFailed) as caught:
        visits(agent)
    assert "worker of device 'pi' ended with exit status 3 while running visit 'p'; its stderr ended: assertion failed in kernel" in one_line(caught)


def test_a_worker_that_is_killed_and_one_that_hangs_are_told_apart(server, misbehaving):
    packed = misbehaving("if os.path.exists(os.environ['HOME'] + '/die'):\n    os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)")
    with echo(server, worker_archive=packed, timeout_s=1.0) as agent:
        with pytest.raises(WorkerFailed, match="did not answer within 1 s while running visit 'p'; raise timeout_s"):
            visits(agent)
        (server.home / "die").touch()
        with pytest.raises(WorkerFailed, match="was killed by SIGKILL while running visit 'p'"):
            visits(agent)


def test_closing_from_another_thread_ends_a_visit_with_one_clear_line(server, misbehaving):
    agent = echo(server, worker_archive=misbehaving("open(os.environ['HOME'] + '/begun', 'w').close()\ntime.sleep(60)"))
    agent.info()
    closing = when(server.home / "begun", agent.close)
    with pytest.raises(DeviceError, match="was closed while running visit 'p'|was killed by SIG|was lost while") as caught:
        visits(agent)
    closing.join()
    one_line(caught)


def test_an_interrupt_during_a_visit_ends_the_worker(server, misbehaving):
    packed = misbehaving(f"open(os.environ['HOME'] + '/pid', 'w').write(str(os.getpid()))\nos.kill({os.getpid()}, signal.SIGINT)\ntime.sleep(60)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT, and so would this test
    try:
        with pytest.raises(KeyboardInterrupt), echo(server, worker_archive=packed) as agent:
            visits(agent)
    finally:
        signal.signal(signal.SIGINT, before)
    assert until(lambda: not is_running(int((server.home / "pid").read_text())))


def test_a_connection_that_is_cut_in_a_visit_is_one_clear_line_and_the_agent_connects_anew(server, misbehaving):
    packed = misbehaving("home = os.environ['HOME']\nopen(home + '/begun', 'w').close()\ntime.sleep(0.0 if os.path.exists(home + '/on') else 30)")
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
    program = (
        "import sys, time\n"
        "from device_agents.base import VisitPlan\n"
        "from device_agents.ssh import SshAgent\n"
        f"agent = SshAgent('pi', **{server.settings(runtime='echo', python=sys.executable)!r})\n"
        "iterator = agent.measure({'m': b'x'}, [VisitPlan('p', ('m',), 1), VisitPlan('q', ('m',), 1)])\n"
        "print(next(iterator).worker, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(archive.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as host:
        pid = int(host.stdout.readline().partition("-")[0])
        assert is_running(pid) and len(list(tmp_path.glob("elastic-latency-*"))) == 1
        host.send_signal(signal.SIGKILL)
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


# --- shells ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil", ["$(touch {mark})", "`touch {mark}`", "x; touch {mark} #", "' ; touch {mark} ; '", '" ; touch {mark} ; "', "x & touch {mark}"]
)
def test_no_setting_is_ever_read_by_a_shell(server, tmp_path, evil):
    mark = tmp_path / "executed"
    text = evil.format(mark=mark)
    for settings in ({"python": text}, {"folder": text}, {"folder": f"~/{text}"}, {"venv": text, "python": None}):
        with echo(server, **settings) as agent:
            try:
                agent.info()
            except DeviceError:
                continue
    for settings in ({"host": text}, {"host": f"{text}@127.0.0.1"}, {"user": text}):
        with pytest.raises(ValueError, match="expected a name"):
            SshAgent("pi", **{**server.settings(), **settings})
    folder = tmp_path / text.replace("/", "_")
    folder.mkdir()
    with echo(server, folder=str(folder)) as agent:
        assert len(visits(agent)) == 1
    assert not mark.exists()


# --- checks ---------------------------------------------------------------------------------------------------------------


def test_the_checks_prove_each_step_and_stop_at_the_first_that_fails(server, tmp_path):
    with echo(server) as agent:
        found = {check.name: check for check in agent.checks()}
    assert list(found)[:7] == ["reachable", "host key", "login", "python", "folder", "runtime", "cores"]
    assert {"clock", "temperature", "throttling"} <= set(found)
    assert all(check.passed for check in list(found.values())[:7])
    assert "SHA256:" in found["host key"].text and "numpy" in found["python"].text

    def last(**settings):
        with echo(server, **settings) as agent:
            *passed, failed = agent.checks()
        assert all(check.passed for check in passed) and failed.passed is False
        return failed.name

    assert last(python="python3.99") == "python"
    assert last(folder="/proc") == "folder"
    assert last(cores=[4095]) == "runtime"
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(other))
    other.chmod(0o600)
    assert last(key=str(other)) == "login"
    server.known_hosts.write_text("")
    assert last() == "host key"
    assert last(port=1) == "reachable"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("0x0", "0x0", False), ("0x50000", "0x50000", False), ("0x0", "0x20000", True), ("0x50000", "0x50005", True), ("rubbish", "rubbish", None)],
)
def test_a_raspberry_pi_s_own_words_on_throttling_reach_the_host(tmp_path, before, after, expected, altered):
    """Stands in for vcgencmd by a script: bits 0-3 say what is now, bits 16-19 what has been since boot."""
    answer, programs = tmp_path / "answer", tmp_path / "programs"
    programs.mkdir()
    script(programs / "vcgencmd", f'[ "$1" = get_throttled ] && cat {answer}')
    answer.write_text(f"throttled={before}\n")
    packed = altered("runtime_echo.py", "def _nothing() -> None:\n    pass\n",
                     f"def _nothing() -> None:\n    open({str(answer)!r}, 'w').write('throttled={after}\\n')\n")  # fmt: skip
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with ssh_server(tmp_path, environment) as server, echo(server, worker_archive=packed) as agent:
        (visit,) = visits(agent)
    assert visit.state_before.throttled is (None if expected is None else False)
    assert visit.state_after.throttled is expected
