"""The two ends of a connection that tests of transports need: a device (the double, or a real adbd), and a client (adb-shell, or Debian's adb)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from adb_double import DEVICE_FOLDER, AdbDouble
from real_adbd import RealAdbd, real_adbd, write_key
from tcp_relay import TcpRelay

from device_agents.android.adb_server import NoServer, Server
from device_agents.android.adb_server_transport import AdbServerTransport
from device_agents.android.adb_shell_transport import AdbShellTransport
from device_agents.android.transport import Transport

FOLDER = DEVICE_FOLDER  # the device's folder for tests, of either device


@dataclass(frozen=True)
class AdbServer:
    """A server of the tests' own, with a key of its own; `run` runs Debian's adb against it."""

    address: Server
    key: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return how adb ended."""
        command = ["adb", "-H", self.address.host, "-P", str(self.address.port), *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)

    def attach(self, serial: str) -> None:
        """Connect the server with a device on the network and wait until it has made up its mind about it."""
        self.run("connect", serial)
        for _ in range(100):
            if any(found.serial == serial and found.state in ("device", "unauthorized") for found in self.address.devices()):
                return
            time.sleep(0.05)
        raise RuntimeError(f"the adb server does not reach {serial}: {self.address.devices()}")


@contextlib.contextmanager
def running_adb_server() -> Iterator[AdbServer]:
    """Run Debian's adb server on a port of its own; where there is none, the test is skipped."""
    program = shutil.which("adb")
    if program is None:
        pytest.skip("no adb here (Debian: apt-get install adb)")
    with tempfile.TemporaryDirectory(prefix="adb-server-") as home:
        write_key(Path(home, ".android", "adbkey"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        environment = {"HOME": home, "PATH": os.environ["PATH"], "TMPDIR": home}
        with Path(home, "log").open("wb") as log:
            process = subprocess.Popen([program, "-P", str(port), "nodaemon", "server"], env=environment, stdout=log, stderr=log)
        try:
            address = Server("127.0.0.1", port)
            wait_for(address, process, Path(home, "log"))
            yield AdbServer(address, Path(home, ".android", "adbkey"))
        finally:
            process.kill()
            process.wait(10)


def wait_for(address: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(NoServer):
            address.version()
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the adb server does not answer: {log.read_text()}")


@contextlib.contextmanager
def server_double(**answers: str) -> Iterator[Server]:
    """Run a test double of an adb server that knows only `version` and `devices` and answers them so."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, contextlib.suppress(OSError):
                    service = connection.recv(int(connection.recv(4), 16)).decode()
                    text = answers["devices" if service == "host:devices-l" else "version"]
                    connection.sendall(f"OKAY{len(text):04x}{text}".encode() if not text.startswith("raw ") else text[4:].encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Server("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@dataclass
class Peer:
    """A device that a transport reaches through a relay, and what can be done to it."""

    transport: Transport
    relay: TcpRelay
    device: AdbDouble | RealAdbd
    key: Path

    @property
    def is_real(self) -> bool:
        """Whether it is the real daemon."""
        return isinstance(self.device, RealAdbd)

    def file(self, path: str) -> Path:
        """Return where a file of the device is on this machine."""
        return Path(self.device.local(path)) if isinstance(self.device, AdbDouble) else self.device.path(path)

    def fill_disk(self, leaving_bytes: int) -> None:
        """Leave so little space."""
        if isinstance(self.device, AdbDouble):
            self.device.space_bytes = leaving_bytes
        else:
            self.device.fill_disk(leaving_bytes)

    def revoke_keys(self) -> None:
        """Accept no key any more, and end the connections."""
        if isinstance(self.device, AdbDouble):
            self.device.keys = []
            self.relay.reset()
        else:
            self.device.revoke_keys()

    def authorise(self) -> None:
        """Accept the client's key."""
        if isinstance(self.device, AdbDouble):
            self.device.keys = [Path(f"{self.key}.pub").read_bytes()]
        else:
            self.device.authorise(self.key)


@contextlib.contextmanager
def device(kind: str, folder: Path) -> Iterator[tuple[AdbDouble | RealAdbd, TcpRelay, Path]]:
    """Run a device; yields it, the relay to it, and a key that it accepts."""
    if kind == "adbd":
        with real_adbd() as real:
            yield real, real.relay, real.key
        return
    (folder / "device").mkdir()
    write_key(folder / "adbkey")
    with (
        AdbDouble(folder / "device", [(folder / "adbkey.pub").read_bytes()]) as double,
        TcpRelay((double.host, double.port)) as relay,
    ):
        yield double, relay, folder / "adbkey"


@contextlib.contextmanager
def peer(client: str, kind: str, folder: Path, server: AdbServer | None) -> Iterator[Peer]:
    """Run a device of a kind and give the transport of a client to it."""
    with device(kind, folder) as (found, relay, key):
        if client == "adb_shell":
            made = Peer(AdbShellTransport.tcp(relay.host, relay.port, key, accept_timeout_s=1.0), relay, found, key)
        else:
            assert server is not None
            serial = f"{relay.host}:{relay.port}"
            made = Peer(AdbServerTransport(serial, server=server.address), relay, found, server.key)
            server.attach(serial)
        try:
            yield made
        finally:
            made.transport.close()
            if server is not None and client == "adb_server":
                server.run("disconnect", f"{relay.host}:{relay.port}")
