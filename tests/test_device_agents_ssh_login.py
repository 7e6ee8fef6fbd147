"""Logging in over SSH: host keys, keys, the user's ~/.ssh/config and jump hosts, against a real SSH server in this process."""

from __future__ import annotations

import sys

import pytest

asyncssh = pytest.importorskip("asyncssh")
from echo_agents import echo, one_line  # noqa: E402
from echo_workers import visits  # noqa: E402
from ssh_server import clean_ssh_server, ssh_server  # noqa: E402

from device_agents.base import DeviceUnreachable  # noqa: E402
from device_agents.ssh import SshAgent  # noqa: E402
from device_agents.ssh_login import HostKeyRefused, LoginRefused  # noqa: E402


@pytest.fixture
def server(tmp_path):
    """Give a server that a login reaches with `server.settings()`, and check that nothing of ours stays on it."""
    with clean_ssh_server(tmp_path) as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give the .ssh folder of a user of this side who has nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / "user" / ".ssh"
    folder.mkdir(parents=True)
    return folder


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
    with echo(server) as agent, pytest.raises(HostKeyRefused) as caught:
        agent.info()
    assert "is another one than before (ssh-ed25519 SHA256:" in one_line(caught)


@pytest.mark.parametrize("host_keys", [("ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa"), ("ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519")])
def test_of_a_server_with_host_keys_of_several_kinds_the_known_one_is_enough(tmp_path, host_keys):
    with ssh_server(tmp_path, host_keys=host_keys) as server, echo(server) as agent:
        assert agent.info().runtime == "echo"


def test_the_kinds_of_host_keys_that_the_ssh_config_asks_for_count(server, home):
    (home / "config").write_text(f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  IdentityFile {server.key}\n"
                                 f"  UserKnownHostsFile {server.known_hosts}\n  HostKeyAlgorithms ecdsa-sha2-nistp256\n")  # fmt: skip
    with SshAgent("pi", host="board", runtime="echo") as agent, pytest.raises(DeviceUnreachable, match="ended the connection|be reached: .* reset"):
        agent.info()  # the server has no such key: its reason and its reset are on the way together


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
