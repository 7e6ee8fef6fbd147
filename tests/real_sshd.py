"""Real OpenSSH servers, each alone in a network namespace of its own, as several hosts in a network are. Needs root."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"  # it starts itself anew for each connection, and so insists on absolute paths; of its configuration file too
NUMBERS = itertools.count()


def require(*programs: str) -> None:
    """Skip the test where this machine cannot run what it needs, by name."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    for program in ("ip", SSHD, "ssh-keygen", *programs):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here (Debian: apt-get install openssh-server iproute2)")
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine gives no network namespaces: {tried.stderr.strip()}")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Network:
    """Namespaces and the cables between them; names are this process's own."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def host(self) -> str:
        """Add a host; returns its name."""
        name = f"elt{os.getpid()}n{next(NUMBERS)}"
        run("ip", "netns", "add", name)
        self._names.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def connect(self, host: str, to: str | None = None) -> tuple[str, str, str]:
        """Lay a cable from this machine, or from the host `to`, to a host; returns both ends' addresses and the name of this end."""
        number = next(NUMBERS)
        here, there = f"elt{os.getpid() % 10000}a{number}", f"elt{os.getpid() % 10000}b{number}"
        net = f"10.{80 + os.getpid() % 100}.{number % 256}"  # a real adbd has 10.78
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", host)
        if to is not None:
            run("ip", "link", "set", here, "netns", to)
        at = ("-n", to) if to is not None else ()
        for place, name, address in ((at, here, f"{net}.1/24"), (("-n", host), there, f"{net}.2/24")):
            run("ip", *place, "addr", "add", address, "dev", name)
            run("ip", *place, "link", "set", name, "up")
        return f"{net}.1", f"{net}.2", here

    def close(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Sshd:
    """One sshd on one address of a namespace; `settings()` is how a device of transport ssh reaches it."""

    def __init__(self, folder: Path, namespace: str, address: str, extra: Sequence[str] = (), root: Path | None = None) -> None:
        self.folder, self.namespace, self.address, self.root = folder, namespace, address, root
        inside = folder if root is None else Path("/sshd")
        self._at = folder if root is None else root / "sshd"
        self._at.mkdir(parents=True, exist_ok=True)
        self.key, self.known_hosts = folder / "id_ed25519", folder / "known_hosts"
        if not self.key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        shutil.copy(self.key.with_suffix(".pub"), self._at / "authorized_keys")
        os.chmod(self._at / "authorized_keys", 0o644)
        os.chmod(self._at, 0o755)
        (self._at / "config").write_text(
            f"Port 22\nListenAddress {address}\nHostKey {inside}/host_key\nAuthorizedKeysFile {inside}/authorized_keys\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nLogLevel INFO\n"
            "MaxStartups 100\n" + "".join(f"{line}\n" for line in extra)
        )
        self._command = [SSHD, "-D", "-e", "-f", f"{inside}/config"]
        self._process: subprocess.Popen[bytes] | None = None
        self.change_host_key()
        self.start()

    def settings(self, **more: object) -> dict:
        return {"host": self.address, "user": "root", "key": str(self.key), "known_hosts": str(self.known_hosts), **more}

    def change_host_key(self, known: bool = True) -> None:
        """Make a host key, as a device that is set up anew has another; `known` puts it into known_hosts."""
        for file in self._at.glob("host_key*"):
            file.unlink()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._at / "host_key")
        if known:
            self.known_hosts.write_text(f"{self.address} {(self._at / 'host_key.pub').read_text()}")

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks its child in that talks to strangers
        chroot = [] if self.root is None else ["chroot", str(self.root)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *chroot, *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        for _ in range(600):
            if "Server listening" in (self.folder / "log").read_text(errors="replace").rpartition("--- started\n")[2]:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"sshd does not start: {(self.folder / 'log').read_text()}")

    def sessions(self) -> list[int]:
        """Return the processes that serve one connection each."""
        return children(self._process.pid)

    def cut(self) -> None:
        """Kill what serves the connections, and no more: the kernel resets them."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self, signal_number: int = signal.SIGKILL) -> None:
        """End the server and everything that logins started, as when the host is switched off."""
        below = descendants(self._process.pid)
        for pid in [self._process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        self._process.wait(30)
        with (self.folder / "log").open("a") as log:
            log.write("--- started\n")


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


@contextlib.contextmanager
def network() -> Iterator[tuple[Network, Callable[..., Sshd]]]:
    """Give a network, and a maker of servers that all end with it."""
    require()
    net, servers = Network(), []

    def make(folder: Path, namespace: str, address: str, **settings) -> Sshd:
        folder.mkdir(parents=True, exist_ok=True)
        servers.append(Sshd(folder, namespace, address, **settings))
        return servers[-1]

    try:
        yield net, make
    finally:
        for server in servers:
            with contextlib.suppress(Exception):
                server.stop()
        net.close()


@contextlib.contextmanager
def one_sshd(folder: Path, **settings) -> Iterator[Sshd]:
    """Run one server that this machine reaches."""
    with network() as (net, make):
        name = net.host()
        _, address, cable = net.connect(name)
        server = make(folder, name, address, **settings)
        server.cable = cable
        yield server
