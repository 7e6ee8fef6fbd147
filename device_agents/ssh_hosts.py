"""Which SSH server a device is, and who logs in there, as a device's settings say it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%+-]*")  # of hosts: names, addresses, aliases; nothing that a shell or ssh would read
USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*")


@dataclass(frozen=True)
class SshHost:
    """A server and a login; what is None comes from ~/.ssh/config, or else is ssh's default.

    Raises (of_settings):
        ValueError: a setting is out of range or malformed.
    """

    name: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    known_hosts: str | None = None

    @classmethod
    def of_settings(cls, host: str, port: int | None, user: str | None, key: str | None, known_hosts: str | None) -> SshHost:
        """Return the host that a device's settings name: HOST, USER@HOST, HOST:PORT or USER@HOST:PORT, with [ADDRESS]:PORT for IPv6."""
        if not isinstance(host, str):
            raise ValueError(f"host is {host!r}; expected a name of ~/.ssh/config, or USER@HOST:PORT")
        in_host_user, _, place = host.rpartition("@")
        found = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?|([^:]*)(?::(\d+))?|(.*)", place, re.DOTALL)
        assert found is not None  # the last alternative takes everything
        name = found[1] or found[3] or found[5] or ""
        in_host_port = found[2] or found[4]
        if in_host_user and user is not None:
            raise ValueError(f"host {host!r} has a user, and user is {user!r}; give one of them")
        if in_host_port and port is not None:
            raise ValueError(f"host {host!r} has a port, and port is {port!r}; give one of them")
        user = in_host_user or user
        number = int(in_host_port) if in_host_port else port
        if not NAME.fullmatch(name):
            raise ValueError(f"host is {host!r}; expected a name or address of letters, digits, and . : _ % + - only")
        if user is not None and not (isinstance(user, str) and USER.fullmatch(user)):
            raise ValueError(f"user is {user!r}; expected a name of letters, digits, and . _ @ + - only")
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 65536):
            raise ValueError(f"port is {number!r}; expected a number from 1 to 65535")
        return cls(name, number, user, _file("key", key), _file("known_hosts", known_hosts))

    @property
    def command(self) -> str:
        """The command by which a person reaches the same host from a shell."""
        port = () if self.port is None else ("-p", str(self.port))
        key = () if self.key is None else ("-i", self.key)
        file = () if self.known_hosts is None else ("-o", f"UserKnownHostsFile={self.known_hosts}")
        return shlex.join(["ssh", *port, *key, *file, self.name if self.user is None else f"{self.user}@{self.name}"])

    def __str__(self) -> str:
        place = self.name if self.port is None else f"{self.name}:{self.port}"
        return place if self.user is None else f"{self.user}@{place}"


def _file(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} is {value!r}; expected the path of a file")
    return str(Path(value).expanduser())
