"""Logging in to an SSH server with the user's keys, once it has proved to be the server it was before.

The user's ~/.ssh/config counts: names of hosts, HostName, User, Port, IdentityFile, IdentityAgent, ProxyJump, ProxyCommand,
UserKnownHostsFile. Host keys are always checked, those of jump hosts too, whatever the config says. Nobody is asked for
a password.

asyncssh (EPL-2.0 or GPL-2.0-or-later) rather than paramiko (LGPL-2.1): it reads ssh's config itself, ProxyJump included,
uses agents and certificates, notices a dead connection by messages of its own, and runs several commands side by side on
one connection without a thread for each. It is an extra, imported on demand, and never shipped with this project.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from device_agents.base import DeviceUnreachable
from device_agents.ssh_hosts import SshHost

CONNECT_TIMEOUT_S = 20.0
LOGIN_TIMEOUT_S = 60.0  # an emulated board takes seconds for the key exchange
KEEPALIVE_S = 10.0  # a dead connection is noticed after three of these without an answer
KEEPALIVES = 3
SSH_PORT = 22
# Kinds of host keys that a server may show beside those that are known of it: one that has none of the known kinds would end the
# connection without showing any, and how that is told differs from server to server.
OTHER_HOST_KEYS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"


class HostKeyRefused(DeviceUnreachable):
    """The server's host key is unknown, or another one than before."""


class LoginRefused(DeviceUnreachable):
    """The server takes none of the user's keys."""


def imported_asyncssh() -> Any:
    """Return the module asyncssh.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import asyncssh
    except ImportError as error:
        raise ImportError("reaching a device over SSH needs the package 'asyncssh'; install it with pip install 'elastic-latency[ssh]'") from error
    return asyncssh


async def log_in(host: SshHost, who: str, tunnel: Any = None) -> tuple[Any, Any]:
    """Return an open asyncssh connection to the host, through its jump hosts or `tunnel`, and its client, which tells when it `is_lost`.

    Raises:
        DeviceUnreachable: no server answers, or a file of the user's cannot be used; HostKeyRefused and LoginRefused of these.
        ImportError: asyncssh is not installed.
    """
    asyncssh = imported_asyncssh()
    settings = {
        "config": (), "port": () if host.port is None else host.port, "username": () if host.user is None else host.user, **_keys(host, who),
        "password_auth": False, "kbdint_auth": False, "agent_forwarding": False,
        "connect_timeout": CONNECT_TIMEOUT_S, "login_timeout": LOGIN_TIMEOUT_S,
        "keepalive_interval": KEEPALIVE_S, "keepalive_count_max": KEEPALIVES,
    }  # fmt: skip
    judge: _Judge | None = None
    try:
        options = asyncssh.SSHClientConnectionOptions(host=host.name, **settings)
        judge = _Judge(host, who, options.known_hosts)
        if not options.config.get("HostKeyAlgorithms"):
            settings["server_host_key_algs"] = OTHER_HOST_KEYS
        # jump hosts are logged in to here: asyncssh would trust any key of theirs where the config has UserKnownHostsFile none
        for jump in options.tunnel.split(",") if tunnel is None and isinstance(options.tunnel, str) else ():
            tunnel = await _through(tunnel, jump.strip(), who)
        connection, client = await asyncssh.create_connection(judge.client, host.name, tunnel=tunnel, known_hosts=judge.known, **settings)
    except Exception as error:
        if tunnel is not None:
            tunnel.abort()
        if isinstance(error, DeviceUnreachable):
            raise
        raise _explained(error, host, who, judge) from error
    if tunnel is not None:
        connection.set_tunnel(tunnel)  # closed with it
    return connection, client


async def _through(tunnel: Any, jump: str, who: str) -> Any:
    """Return a connection to a jump host, itself through the one before it."""
    try:
        host = SshHost.of_settings(jump, None, None, None, None)
    except ValueError as error:
        raise DeviceUnreachable(f"{who} has the jump host {jump!r} in the ssh config: {error}") from None
    return (await log_in(host, f"jump host {jump!r} of {who}", tunnel))[0]


def _keys(host: SshHost, who: str) -> dict[str, Any]:
    """Return the options for the key that the device's settings name: that one and no other; nothing where they name none."""
    if host.key is None:
        return {}
    asyncssh = imported_asyncssh()
    key = f"the private key {host.key} for {who}"
    try:
        if os.stat(host.key).st_mode & 0o077:
            what = f"can be read by others; chmod 600 {host.key}"
        else:
            asyncssh.read_private_key(host.key)
            return {"client_keys": [host.key], "agent_path": None}
    except OSError as error:
        what = f"cannot be read: {error.strerror}; set `key` to a private key file"
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        if "passphrase" not in str(error).lower():
            what = f"cannot be used: {error}; set `key` to a private key file"
        elif os.environ.get("SSH_AUTH_SOCK"):
            return {"client_keys": [host.key], "ignore_encrypted": True}  # the agent has it
        else:
            what = f"has a passphrase and no agent runs; start one, and: ssh-add {host.key}"
    raise DeviceUnreachable(f"{key} {what}")


class _Judge:
    """Knows the user's known hosts, and says why a host key is refused."""

    def __init__(self, host: SshHost, who: str, of_config: Any) -> None:
        asyncssh = imported_asyncssh()
        self.who = who
        self.user = host.user
        self.refusal: str | None = None
        self._command = host.command
        if host.known_hosts is not None:
            self.files = [Path(host.known_hosts)]
        else:  # asyncssh says None where the config has UserKnownHostsFile none, which it takes for trusting every key
            self.files = [Path(name) for name in of_config or ()] or [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
        self.known = asyncssh.import_known_hosts("")
        for file in self.files:
            try:
                self.known.load(file.read_text())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise DeviceUnreachable(f"the file of known hosts {file} for {who} cannot be used: {error}") from None

    def client(self) -> Any:
        """Return a client of asyncssh's that tells this judge which key it was shown, and trusts none but the known."""
        judge = self

        class Client(imported_asyncssh().SSHClient):  # type: ignore[misc]
            is_lost = False

            def connection_lost(self, error: Exception | None) -> None:
                self.is_lost = True

            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                judge._refuse(host, addr, port, key)
                return False

            def begin_auth(self, username: str) -> None:
                judge.user = username

        return Client()

    def _refuse(self, host: str, addr: str, port: int, key: Any) -> None:
        other = None if port == SSH_PORT else port
        shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        file, place = self.files[0], host if other is None else f"[{host}]:{other}"
        at_the_device = "compare that with `ssh-keygen -lf` of the files /etc/ssh/ssh_host_*_key.pub on the device itself"
        if self.known.match(host, addr, other)[0]:
            self.refusal = (
                f"the host key of {self.who} is another one than before ({shown}; {file} has a different one): the device was set up anew, or "
                f"another machine answers in its place; {at_the_device}, and where it is right remove the old one: ssh-keygen -R '{place}' -f {file}"
            )
        else:
            self.refusal = (
                f"the host key of {self.who} is not known yet ({shown}); {at_the_device}, then log in once to add it to {file}: {self._command}"
            )


def _explained(error: Exception, host: SshHost, who: str, judge: _Judge | None) -> DeviceUnreachable:
    """Return what a failed login means to the user."""
    asyncssh = imported_asyncssh()
    if judge is not None and judge.refusal is not None:
        return HostKeyRefused(judge.refusal)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyRefused(f"the host key of {who} is refused: {error.reason}; see {judge.files[0] if judge else 'known_hosts'}")
    if isinstance(error, asyncssh.PermissionDenied):
        user = judge.user if judge else host.user
        key = f"the key {host.key}" if host.key else "any key of yours, in ~/.ssh or your agent"
        return LoginRefused(
            f"{who} does not take {key} for the user {user!r} ({error.reason}); put a public key there with ssh-copy-id, or set `key`"
        )
    if isinstance(error, asyncssh.KeyImportError):
        return DeviceUnreachable(f"a private key for {who} cannot be used: {error}; see ~/.ssh and its config")
    if isinstance(error, asyncssh.ConfigParseError):
        return DeviceUnreachable(f"~/.ssh/config cannot be used for {who}: {error}")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return DeviceUnreachable(f"{who} does not answer within {CONNECT_TIMEOUT_S:g} s; see that it is on and in the network")
    if isinstance(error, socket.gaierror):
        return DeviceUnreachable(f"{who} is no name of ~/.ssh/config and no address that is known here; set `host` of the device")
    if isinstance(error, asyncssh.ChannelOpenError):
        return DeviceUnreachable(f"{who} cannot be reached from its jump host: {error.reason}")
    if isinstance(error, asyncssh.Error):
        return DeviceUnreachable(f"{who} ended the connection before the login: {error.reason}; see that an SSH server listens there")
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DeviceUnreachable(f"{who} cannot be reached: {why}; see that it is on and an SSH server listens there")
