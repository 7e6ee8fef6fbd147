"""What a host may lack, or do otherwise than expected, and how its checks tell it: a real SSH server in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

asyncssh = pytest.importorskip("asyncssh")
from echo_agents import EVIL, echo, one_line, settings_read_by_a_shell  # noqa: E402
from echo_workers import altered_archive, visits  # noqa: E402
from ssh_server import clean_ssh_server, ssh_server  # noqa: E402

from device_agents.base import DeviceError, RuntimeMissing  # noqa: E402
from device_agents.ssh import SshAgent  # noqa: E402
from device_agents.ssh_folder import STARTER, FolderRefused, PythonUnfit  # noqa: E402


@pytest.fixture
def server(tmp_path):
    """Give a server that a login reaches with `server.settings()`, and check that nothing of ours stays on it."""
    with clean_ssh_server(tmp_path) as running:
        yield running


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


def test_a_runtime_that_is_missing_is_one_clear_line_and_says_what_installs_it(server, tmp_path):
    missing = "import onnxruntime_that_is_missing as onnxruntime"
    packed = altered_archive(tmp_path / "altered", "runtime_onnxruntime.py", "import onnxruntime", missing)
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


@pytest.mark.parametrize("evil", EVIL)
def test_no_setting_is_ever_read_by_a_shell(server, tmp_path, evil):
    assert settings_read_by_a_shell(server, tmp_path, evil) == []
    text = evil.format(mark=tmp_path / "executed")
    for settings in ({"host": text}, {"host": f"{text}@127.0.0.1"}, {"user": text}):
        with pytest.raises(ValueError, match="expected a name"):
            SshAgent("pi", **{**server.settings(), **settings})


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
def test_a_raspberry_pi_s_own_words_on_throttling_reach_the_host(tmp_path, before, after, expected):
    """Stands in for vcgencmd by a script: bits 0-3 say what is now, bits 16-19 what has been since boot."""
    answer, programs = tmp_path / "answer", tmp_path / "programs"
    programs.mkdir()
    script(programs / "vcgencmd", f'[ "$1" = get_throttled ] && cat {answer}')
    answer.write_text(f"throttled={before}\n")
    packed = altered_archive(tmp_path / "altered", "runtime_echo.py", "def _nothing() -> None:\n    pass\n",
                     f"def _nothing() -> None:\n    open({str(answer)!r}, 'w').write('throttled={after}\\n')\n")  # fmt: skip
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with ssh_server(tmp_path, environment) as server, echo(server, worker_archive=packed) as agent:
        (visit,) = visits(agent)
    assert visit.state_before.throttled is (None if expected is None else False)
    assert visit.state_after.throttled is expected
