"""Both transports to an Android device, each against the double and, marked, against a real adbd: the same tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from adb_double import AdbDouble
from android_peers import FOLDER, AdbServer, Peer, peer, running_adb_server
from real_adbd import RealAdbd, write_key
from tcp_relay import TcpRelay

from device_agents.android import keys
from device_agents.android.adb_server_transport import AdbServerTransport
from device_agents.android.adb_shell_transport import AdbShellTransport
from device_agents.android.transport import CommandFailed, ConnectionLost, Transport, Unauthorised, words
from device_agents.base import DeviceError, DeviceUnreachable

PAIRS = [
    pytest.param((client, kind), id=f"{client}-{kind}", marks=[pytest.mark.device_services] if kind == "adbd" else [])
    for kind in ("double", "adbd")
    for client in ("adb_shell", "adb_server")
]
# Each would write the file `executed` if any shell on the way read it as more than a name.
NASTY_NAMES = [
    "a b", "semi;touch executed", "(touch executed)",
    "$(touch executed)", "`touch executed`", "quote'touch executed'", 'double"quote', "new\nline", "amper&touch executed",
    "pipe|touch executed", "star*", "~", "-rf", "#comment", "back\\slash", "trailing\\", "über", "!event", "comma,0777", ">executed", "%s", "{a,b}",
]  # fmt: skip


@pytest.fixture(scope="module")
def adb_server() -> Iterator[AdbServer]:
    with running_adb_server() as server:
        yield server


@pytest.fixture(params=PAIRS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    client, kind = request.param
    server = request.getfixturevalue("adb_server") if client == "adb_server" else None
    with peer(client, kind, tmp_path, server) as found:
        yield found


def leftovers(device: Peer) -> list[str]:
    return [path.name for path in device.file(FOLDER).rglob("*.part")]


def test_a_command_tells_exit_code_stdout_and_stderr_apart(device: Peer) -> None:
    ended = device.transport.shell("echo out; echo err >&2; exit 9")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (9, b"out\n", b"err\n")
    assert device.transport.shell("true").exit_code == 0


def test_output_is_not_changed_on_its_way(device: Peer) -> None:
    ended = device.transport.shell(r"printf 'a\r\nb\nc\001\377'; printf 'no end' >&2")
    assert (ended.stdout, ended.stderr) == (b"a\r\nb\nc\x01\xff", b"no end")
    assert device.transport.shell("yes 0123456789 | head -n 200000").stdout == b"0123456789\n" * 200_000


def test_a_script_that_leaves_or_breaks_its_shell_has_still_ended(device: Peer) -> None:
    assert device.transport.shell("if").exit_code not in (0, None)
    assert device.transport.shell("exit 3; echo never").stdout == b""
    assert device.transport.shell("kill -9 $$").exit_code != 0


def test_run_returns_stdout_and_names_what_failed(device: Peer) -> None:
    assert device.transport.run(["echo", "a  b", "$HOME"]) == "a  b $HOME\n"
    with pytest.raises(CommandFailed, match="'ls' on device .* ended with exit code"):
        device.transport.run(["ls", f"{FOLDER}/none"])


def test_a_process_left_in_the_background_does_not_hold_the_shell(device: Peer) -> None:
    start = time.monotonic()
    # A program of its own: Android's shell keeps the streams open for a subshell ( ... ) & even where they are redirected.
    device.transport.shell(f"cd {FOLDER}; nohup sh -c 'sleep 2; echo done >later' </dev/null >/dev/null 2>&1 &", 10)
    assert time.monotonic() - start < 1.8
    time.sleep(2.5)
    assert device.transport.pull(f"{FOLDER}/later") == b"done\n"


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
def test_what_was_pushed_is_what_is_pulled(device: Peer, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    device.transport.push(b"older and longer" * 10, f"{FOLDER}/new folder/file")
    device.transport.push(data, f"{FOLDER}/new folder/file", mode=0o750)
    assert device.transport.pull(f"{FOLDER}/new folder/file") == data
    assert device.file(f"{FOLDER}/new folder/file").stat().st_mode & 0o777 == 0o750
    assert leftovers(device) == []


def test_no_name_is_executed(device: Peer) -> None:
    for start in range(0, len(NASTY_NAMES), 4):
        path = "/".join([FOLDER, *NASTY_NAMES[start : start + 4]])
        device.transport.push(path.encode(), path)
        assert device.transport.pull(path) == path.encode()
        assert device.transport.run(["cat", path]) == path
        assert device.file(path).read_bytes() == path.encode()
    assert not list(device.file(FOLDER).rglob("executed"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("path", ["relative", f"{FOLDER}/nul\0byte", f"{FOLDER}/folder/", ""])
def test_what_is_no_path_is_refused_before_anything_is_sent(device: Peer, path: str) -> None:
    with pytest.raises(DeviceError, match="is no path of a file"):
        device.transport.push(b"data", path)
    with pytest.raises(DeviceError, match="is no path of a file"):
        device.transport.pull(path)


def test_a_script_with_a_nul_or_too_long_is_refused(device: Peer) -> None:
    with pytest.raises(DeviceError, match="NUL"):
        device.transport.shell("echo a\0b")
    with pytest.raises(DeviceError, match="too long"):
        device.transport.shell("echo " + "x" * 200_000)
    assert len(device.transport.run(["echo", "x" * 50_000])) == 50_001


def test_a_file_that_is_missing_or_a_folder_cannot_be_pulled(device: Peer) -> None:
    with pytest.raises(DeviceError, match="none' on device .* cannot be read: .*(No such file or directory|does not exist)") as missing:
        device.transport.pull(f"{FOLDER}/none")
    assert not isinstance(missing.value, DeviceUnreachable)
    device.transport.push(b"1", f"{FOLDER}/folder/file")
    with pytest.raises(DeviceError, match="folder"):
        device.transport.pull(f"{FOLDER}/folder")
    assert device.transport.run(["echo", "still there"]) == "still there\n"


def test_a_push_to_where_nothing_can_be_written_is_one_quick_error(device: Peer) -> None:
    start = time.monotonic()
    for path in ("/system/bin/runner", "/data/misc/runner", "/data/local/tmp2/runner"):
        with pytest.raises(DeviceError, match=f"'{path}' cannot be written on device .*(Permission denied|Read-only file system)") as error:
            device.transport.push(b"x" * 300_000, path)
        assert not isinstance(error.value, DeviceUnreachable)
        assert "\n" not in str(error.value)
    assert time.monotonic() - start < 5
    assert device.transport.run(["echo", "still there"]) == "still there\n"


def test_a_push_in_place_of_a_folder_is_refused(device: Peer) -> None:
    device.transport.push(b"1", f"{FOLDER}/folder/file")
    with pytest.raises(DeviceError, match="is a folder; expected the name of a file"):
        device.transport.push(b"2", f"{FOLDER}/folder")
    assert leftovers(device) == []
    assert device.transport.pull(f"{FOLDER}/folder/file") == b"1"


def test_a_full_disk_is_said_and_what_was_there_stays(device: Peer) -> None:
    device.transport.push(b"old", f"{FOLDER}/file")
    device.fill_disk(leaving_bytes=200_000)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="has no space left for '.*file' of 5000000 bytes; remove files") as error:
        device.transport.push(b"n" * 5_000_000, f"{FOLDER}/file")
    assert time.monotonic() - start < 5
    assert not isinstance(error.value, DeviceUnreachable)
    assert device.transport.pull(f"{FOLDER}/file") == b"old"
    assert leftovers(device) == []


def test_a_command_that_takes_too_long_is_given_up_and_the_next_one_works(device: Peer) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionLost, match="did not answer within 0.5 s"):
        device.transport.shell("sleep 3", timeout_s=0.5)
    assert time.monotonic() - start < 2.5
    assert device.transport.run(["echo", "back"]) == "back\n"


def test_a_command_that_keeps_writing_is_given_up_too(device: Peer) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionLost, match="did not answer within 1 s"):
        device.transport.shell("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done", timeout_s=1)
    assert time.monotonic() - start < 3


def test_a_cable_that_stays_out_is_a_lost_connection_until_it_is_back(device: Peer) -> None:
    device.transport.run(["echo", "here"])
    device.relay.cut()
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            device.transport.shell("echo here", timeout_s=1)
    device.relay.mend()
    assert until_back(device.transport) == "back\n"


def until_back(transport: Transport) -> str:
    """Return what a command says once a connection stands again; a server makes its own, in its own time."""
    for _ in range(20):
        try:
            return transport.run(["echo", "back"])
        except ConnectionLost:
            time.sleep(0.2)
    raise AssertionError("the connection does not come back")


@pytest.mark.parametrize("kind", ["double", pytest.param("adbd", marks=pytest.mark.device_services)])
def test_a_key_that_the_device_does_not_know_is_said_and_nothing_is_done(kind: str, tmp_path: Path) -> None:
    keys.make(tmp_path / "other" / "adbkey")
    with peer("adb_shell", kind, tmp_path, None) as device:
        stranger = AdbShellTransport.tcp(device.relay.host, device.relay.port, tmp_path / "other" / "adbkey", accept_timeout_s=0.5)
        start = time.monotonic()
        with pytest.raises(Unauthorised, match="does not accept the key '.*other/adbkey'; unlock it, accept 'Allow USB debugging' .* on its screen"):
            stranger.push(b"model", f"{FOLDER}/model")
        assert time.monotonic() - start < 5
        assert not device.file(f"{FOLDER}/model").exists()
        assert device.transport.run(["echo", "known"]) == "known\n"


def test_a_revoked_key_is_said_and_works_again_once_accepted(device: Peer) -> None:
    device.transport.run(["true"])
    device.revoke_keys()
    for _ in range(4):  # the first may only notice that the connection broke
        with pytest.raises(DeviceUnreachable) as error:
            device.transport.shell("true", timeout_s=5)
        if isinstance(error.value, Unauthorised):
            break
    assert "accept 'Allow USB debugging'" in str(error.value)
    with pytest.raises(Unauthorised):
        device.transport.push(b"model", f"{FOLDER}/model", timeout_s=5)
    device.authorise()
    if isinstance(device.transport, AdbShellTransport):
        assert device.transport.run(["echo", "accepted"]) == "accepted\n"


def attempts(device: Peer) -> int:
    return 20 if device.is_real else 3


def test_a_reset_while_pushing_leaves_the_old_file_or_the_new_one(device: Peer) -> None:
    rng, path, size = np.random.default_rng(1), f"{FOLDER}/model", 700_000
    content = rng.bytes(size)
    device.transport.push(content, path)
    lost = 0
    for _ in range(attempts(device)):
        new = rng.bytes(size)
        device.relay.reset_after(int(rng.integers(0, size + 1500)))
        try:
            device.transport.push(new, path, timeout_s=20)
            content = new
        except ConnectionLost:
            lost += 1
            assert device.file(path).read_bytes() in (content, new)
        device.relay.disarm()
        until_back(device.transport)
        device.transport.push(new, path)
        content = new
        assert device.transport.pull(path) == new
        assert leftovers(device) == []
    assert lost >= attempts(device) // 2


def test_a_reset_while_a_command_runs_never_passes_for_its_end(device: Peer) -> None:
    rng, lost = np.random.default_rng(2), 0
    for _ in range(attempts(device)):
        timer = threading.Timer(float(rng.uniform(0, 0.25)), device.relay.reset)
        timer.start()
        try:
            ended = device.transport.shell("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done", timeout_s=5)
            assert (ended.exit_code, ended.stdout) == (0, b"1\n2\n3\n4\n5\n")
        except ConnectionLost:
            lost += 1
        timer.join()
        until_back(device.transport)
    assert lost >= attempts(device) // 2


def test_a_reset_while_pulling_never_passes_for_the_whole_file(device: Peer) -> None:
    rng, path, size, lost = np.random.default_rng(3), f"{FOLDER}/model", 700_000, 0
    content = rng.bytes(size)
    device.transport.push(content, path)
    for _ in range(attempts(device)):
        device.relay.reset_after(int(rng.integers(0, size + 1500)))
        try:
            assert device.transport.pull(path, timeout_s=20) == content
        except ConnectionLost:
            lost += 1
        device.relay.disarm()
        until_back(device.transport)
        assert device.transport.pull(path) == content
    assert lost >= attempts(device) // 2


# --- what only the real daemon can be made to do ------------------------------------------------------------------------------


@pytest.fixture(params=["adb_shell", "adb_server"])
def with_adbd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Transport, RealAdbd]]:
    server = request.getfixturevalue("adb_server") if request.param == "adb_server" else None
    with peer(request.param, "adbd", tmp_path, server) as found:
        assert isinstance(found.device, RealAdbd)
        yield found.transport, found.device


@pytest.mark.device_services
def test_a_daemon_that_dies_is_reached_again_and_what_ran_goes_on(with_adbd: tuple[Transport, RealAdbd]) -> None:
    transport, adbd = with_adbd
    transport.shell(f"cd {FOLDER}; nohup sh -c 'sleep 2; echo done >later' </dev/null >/dev/null 2>&1 &")
    adbd.kill_daemon()
    assert until_back(transport) == "back\n"
    time.sleep(2.5)
    assert transport.pull(f"{FOLDER}/later") == b"done\n"


@pytest.mark.device_services
def test_a_device_that_restarts_is_reached_again_and_what_ran_is_gone(with_adbd: tuple[Transport, RealAdbd]) -> None:
    transport, adbd = with_adbd
    transport.push(b"model", f"{FOLDER}/model")
    transport.shell("nohup sh -c 'sleep 60; true' </dev/null >/dev/null 2>&1 &")
    late = time.monotonic() + 10  # the shell answers before what it left in the background has started
    while len(adbd.pids("sleep")) != 1 and time.monotonic() < late:
        time.sleep(0.02)
    assert len(adbd.pids("sleep")) == 1
    adbd.reboot()
    assert until_back(transport) == "back\n"
    assert adbd.pids("sleep") == []
    assert transport.pull(f"{FOLDER}/model") == b"model"


@pytest.mark.device_services
def test_a_shell_on_the_device_is_the_unprivileged_one_of_a_phone(with_adbd: tuple[Transport, RealAdbd]) -> None:
    transport, _ = with_adbd
    assert transport.run(["id", "-u"]) == "2000\n"
    assert "MIRBSD KSH" in transport.shell("echo $KSH_VERSION").text
    assert transport.run(["getprop", "ro.product.model"]) == "Pixel 1\n"
    assert transport.shell("python3 -c 1").exit_code == 127
    assert transport.run(["sh", "-c", "ls /"]).split() == [
        "bin",
        "data",
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "ready",
        "sbin",
        "sys",
        "system",
        "usr",
    ]


# --- what only the double can be made to do ---------------------------------------------------------------------------------


@pytest.fixture(params=["adb_shell", "adb_server"])
def with_double(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Transport, AdbDouble]]:
    server = request.getfixturevalue("adb_server") if request.param == "adb_server" else None
    with peer(request.param, "double", tmp_path, server) as found:
        assert isinstance(found.device, AdbDouble)
        yield found.transport, found.device


def test_a_file_damaged_on_its_way_is_sent_once_more(with_double: tuple[Transport, AdbDouble]) -> None:
    transport, double = with_double
    double.corrupt = 1
    transport.push(b"model" * 1000, f"{FOLDER}/model")
    assert transport.pull(f"{FOLDER}/model") == b"model" * 1000


def test_a_file_damaged_each_time_is_an_error_and_does_not_take_the_place(with_double: tuple[Transport, AdbDouble]) -> None:
    transport, double = with_double
    transport.push(b"old", f"{FOLDER}/model")
    double.corrupt = 9
    with pytest.raises(DeviceError, match="differs from what was sent, 2 times: 5000 bytes with SHA-256"):
        transport.push(b"model" * 1000, f"{FOLDER}/model")
    assert transport.pull(f"{FOLDER}/model") == b"old"
    assert [path.name for path in double.folder.iterdir()] == ["model"]


def test_a_device_without_sha256sum_has_its_files_compared_by_size(with_double: tuple[Transport, AdbDouble]) -> None:
    transport, double = with_double
    (double.folder.parent / "bin").mkdir()
    missing = double.folder.parent / "bin" / "sha256sum"
    missing.write_text("#!/bin/sh\nexit 127\n")
    missing.chmod(0o755)
    transport.push(b"model" * 1000, f"{FOLDER}/model")
    assert transport.pull(f"{FOLDER}/model") == b"model" * 1000


@pytest.mark.parametrize("client", ["adb_shell", "adb_server"])
def test_a_device_before_android_7_tells_exit_codes_too(client: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("adb_server") if client == "adb_server" else None
    (tmp_path / "device").mkdir()
    with AdbDouble(tmp_path / "device", shell_v2=False) as double:
        if server is None:
            transport: Transport = AdbShellTransport.tcp(double.host, double.port, write_key(tmp_path / "adbkey"))
        else:
            server.attach(double.serial)
            transport = AdbServerTransport(double.serial, server=server.address)
        ended = transport.shell("echo out; echo err >&2; exit 9")
        assert (ended.exit_code, ended.stdout, ended.stderr) == (9, b"out\nerr\n", b"")
        transport.push(b"model", f"{FOLDER}/model")
        assert transport.pull(f"{FOLDER}/model") == b"model"
        transport.close()


def test_a_device_that_accepts_the_key_on_its_screen_goes_on(tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    with AdbDouble(tmp_path / "device", keys=[]) as double:
        double.accepts_new_keys = True
        transport = AdbShellTransport.tcp(double.host, double.port, write_key(tmp_path / "adbkey"))
        assert transport.run(["echo", "hello"]) == "hello\n"
        transport.close()
        double.accepts_new_keys = False
        assert transport.run(["echo", "known now"]) == "known now\n"
        transport.close()


def test_a_device_that_answers_nothing_is_unreachable_in_time(tmp_path: Path) -> None:
    with AdbDouble(tmp_path) as double:
        double.silent = True
        transport = AdbShellTransport.tcp(double.host, double.port, write_key(tmp_path / "adbkey"))
        start = time.monotonic()
        with pytest.raises(ConnectionLost, match="cannot be reached"):
            transport.shell("true", timeout_s=0.5)
        assert time.monotonic() - start < 2


def test_an_address_where_nobody_listens_is_said(tmp_path: Path) -> None:
    with TcpRelay(("127.0.0.1", 1)) as relay:
        port = relay.port
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}' cannot be reached .Connection refused"):
        AdbShellTransport.tcp("127.0.0.1", port, write_key(tmp_path / "adbkey")).shell("true")


def test_words_are_read_back_as_they_were(with_double: tuple[Transport, AdbDouble]) -> None:
    transport, _ = with_double
    assert transport.shell(f"printf '%s/' {words(NASTY_NAMES)}").text == "/".join([*NASTY_NAMES, ""])
