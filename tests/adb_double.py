"""A test double of an adbd: what quick tests of transports talk to. The real one is in real_adbd.py; both must pass the same tests.

It speaks CNXN, AUTH, OPEN, OKAY, WRTE and CLSE as the daemon of Android 10 does, runs commands with this machine's /bin/sh, and reads and
writes files. `/data/local/tmp` of its paths and commands stands for the folder given; other places of this machine it does not write to.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import secrets
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

DEVICE_FOLDER = "/data/local/tmp"
VERSION, MAX_DATA = 0x01000001, 1 << 20
HEADER = struct.Struct("<6I")
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3


class Ended(Exception):
    """The client has closed the stream, or the connection."""


class AdbDouble:
    """Listens at `host` and `port`; a context manager.

    `keys` are public key files' contents, None to ask for none. Faults: `space_bytes` left for files; `corrupt` files still to be damaged on
    their way; `shell_v2` False for a device before Android 7; `silent` so that it answers nothing.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, keys: list[bytes] | None = None, model: str = "Pixel_1", shell_v2: bool = True) -> None:
        self.folder = folder
        self.keys = keys
        self.model = model
        self.shell_v2 = shell_v2
        self.accepts_new_keys = False
        self.space_bytes: int | None = None
        self.corrupt = 0
        self.silent = False
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.serial = f"{self.host}:{self.port}"
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> AdbDouble:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """End every connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def local(self, text: str) -> str:
        """Return a path or a command with the device's folder in this machine's words."""
        return text.replace(DEVICE_FOLDER, str(self.folder))

    @property
    def banner(self) -> bytes:
        """What it says of itself."""
        features = "shell_v2,cmd" if self.shell_v2 else ""
        return f"device::ro.product.name={self.model};ro.product.model={self.model};ro.product.device={self.model};features={features}".encode()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=Connection(self, connection).serve, daemon=True).start()


class Connection:
    """One client's connection."""

    def __init__(self, double: AdbDouble, connection: socket.socket) -> None:
        self.double = double
        self.socket = connection
        self.streams: dict[int, Stream] = {}
        self._sending = threading.Lock()

    def send(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        code = int.from_bytes(command, "little")
        with self._sending:
            self.socket.sendall(HEADER.pack(code, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, code ^ 0xFFFFFFFF) + data)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise Ended
            data += more
        return data

    def serve(self) -> None:
        with contextlib.suppress(OSError, Ended), self.socket:
            token = secrets.token_bytes(20)
            while True:
                code, arg0, arg1, size, check, magic = HEADER.unpack(self._receive(HEADER.size))
                data = self._receive(size)
                assert magic == code ^ 0xFFFFFFFF
                assert check in (0, sum(data) & 0xFFFFFFFF)
                command = code.to_bytes(4, "little")
                if self.double.silent:
                    continue
                if command in (b"CNXN", b"AUTH"):
                    token = self._authenticate(command, arg0, data, token)
                elif command == b"OPEN":
                    self._start(arg0, data.rstrip(b"\0").decode())
                elif arg1 in self.streams:
                    self.streams[arg1].take(command, data)
        for stream in self.streams.values():
            stream.take(b"CLSE", b"")

    def _authenticate(self, command: bytes, kind: int, data: bytes, token: bytes) -> bytes:
        """Answer one step of it, and return the token to be signed next."""
        keys = self.double.keys
        if command == b"AUTH" and kind == PUBLIC_KEY:
            if not self.double.accepts_new_keys:
                return token  # the question stays on the screen
            self.double.keys = [*(keys or []), data.rstrip(b"\0")]
        elif keys is not None and not (command == b"AUTH" and kind == SIGNATURE and any(signed(token, data, key) for key in keys)):
            token = secrets.token_bytes(20)
            self.send(b"AUTH", TOKEN, 0, token)
            return token
        self.send(b"CNXN", VERSION, MAX_DATA, self.double.banner)
        return token

    def _start(self, remote_id: int, service: str) -> None:
        name, _, command = service.partition(":")
        kind, *options = name.split(",")
        run = {"sync": serve_files, "exec": serve_plain, "shell": serve_shell if options else serve_terminal}.get(kind)
        if run is None or (options and not (self.double.shell_v2 and {"v2", "raw"} <= set(options))):
            self.send(b"CLSE", 0, remote_id)
            return
        stream = Stream(self, len(self.streams) + 1, remote_id)
        self.streams[stream.local_id] = stream
        self.send(b"OKAY", stream.local_id, remote_id)
        threading.Thread(target=self._run, args=(run, stream, command), daemon=True).start()

    def _run(self, service: Service, stream: Stream, command: str) -> None:
        with contextlib.suppress(Ended, OSError):
            service(self.double, stream, command)
        with contextlib.suppress(OSError):
            self.send(b"CLSE", stream.local_id, stream.remote_id)  # whoever was the first to close


class Stream:
    """One service's two ways; a write waits until the one before it was acknowledged."""

    def __init__(self, connection: Connection, local_id: int, remote_id: int) -> None:
        self.connection, self.local_id, self.remote_id = connection, local_id, remote_id
        self._received: queue.Queue[bytes | None] = queue.Queue()
        self._acknowledged = threading.Semaphore(0)
        self._pending = b""
        self._ended = False

    def take(self, command: bytes, data: bytes) -> None:
        if command == b"WRTE":
            self.connection.send(b"OKAY", self.local_id, self.remote_id)
            self._received.put(data)
        else:
            self._ended = self._ended or command == b"CLSE"
            self._acknowledged.release()
            if self._ended:
                self._received.put(None)

    def read(self, size: int) -> bytes:
        while len(self._pending) < size:
            more = self._received.get()
            if more is None:
                raise Ended
            self._pending += more
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            self.connection.send(b"WRTE", self.local_id, self.remote_id, data[at : at + 65536])
            self._acknowledged.acquire()
            if self._ended:
                raise Ended


Service: TypeAlias = Callable[[AdbDouble, Stream, str], None]


def signed(token: bytes, signature: bytes, public_key: bytes) -> bool:
    """Return whether a signature of a token is that of Android's form of a public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

    packed = base64.b64decode(public_key.split()[0])
    modulus, exponent = int.from_bytes(packed[8:264], "little"), int.from_bytes(packed[520:524], "little")
    try:
        rsa.RSAPublicNumbers(exponent, modulus).public_key().verify(signature, token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    except InvalidSignature:
        return False
    return True


# --- services -------------------------------------------------------------------------------------------------------------


def started(double: AdbDouble, command: str, stderr: int) -> subprocess.Popen[bytes]:
    path = f"{double.folder.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["/bin/sh", "-c", double.local(command)], cwd=double.folder, env={"PATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip


def serve_shell(double: AdbDouble, stream: Stream, command: str) -> None:
    """shell,v2,raw: packets of stdout (1) and stderr (2), then the exit code (3)."""
    with started(double, command, subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        kinds = {process.stdout.fileno(): 1, process.stderr.fileno(): 2}
        while kinds:
            for number in select.select(list(kinds), [], [])[0]:
                data = os.read(number, 32768)
                if data:
                    stream.write(struct.pack("<BI", kinds[number], len(data)) + data)
                else:
                    del kinds[number]
        stream.write(struct.pack("<BIB", 3, 1, process.wait() & 0xFF))


def serve_plain(double: AdbDouble, stream: Stream, command: str) -> None:
    """exec: what it writes, both ways in one, and no exit code."""
    with started(double, command, subprocess.STDOUT) as process:
        assert process.stdout
        while data := os.read(process.stdout.fileno(), 32768):
            stream.write(data)


def serve_terminal(double: AdbDouble, stream: Stream, command: str) -> None:
    """shell: as `exec`, through a terminal, which changes line ends."""
    with started(double, command, subprocess.STDOUT) as process:
        assert process.stdout
        stream.write(process.stdout.read().replace(b"\n", b"\r\n"))


def serve_files(double: AdbDouble, stream: Stream, _: str) -> None:
    """sync: STAT, SEND and RECV until QUIT."""
    while True:
        request, size = struct.unpack("<4sI", stream.read(8))
        if request == b"QUIT":
            return
        name = stream.read(size).decode()
        try:
            if request == b"STAT":
                stat_file(stream, Path(double.local(name)))
            elif request == b"RECV":
                send_file(stream, Path(double.local(name)))
            elif request == b"SEND":
                receive_file(double, stream, name)
            else:
                raise OSError(f"unknown request {request!r}")
        except OSError as error:
            fail(stream, f"{'open' if request == b'RECV' else 'write'} failed: {error.strerror or error}")


def stat_file(stream: Stream, path: Path) -> None:
    try:
        found = path.lstat()
        answer = (found.st_mode, found.st_size, int(found.st_mtime))
    except OSError:
        answer = (0, 0, 0)
    stream.write(struct.pack("<4s3I", b"STAT", *answer))


def send_file(stream: Stream, path: Path) -> None:
    data = path.read_bytes()
    for at in range(0, len(data), 65536):
        part = data[at : at + 65536]
        stream.write(struct.pack("<4sI", b"DATA", len(part)) + part)
    stream.write(struct.pack("<4sI", b"DONE", 0))


def receive_file(double: AdbDouble, stream: Stream, name: str) -> None:
    """Write what comes; a refusal is told at once, and the rest is still read, as the daemon does."""
    path, _, mode = name.rpartition(",")
    target, data, reason = Path(double.local(path)), bytearray(), ""
    while True:
        if not reason and (reason := why_not(double, target, len(data))):
            fail(stream, reason)
        kind, size = struct.unpack("<4sI", stream.read(8))
        if kind == b"DONE":
            break
        data += stream.read(size)
    if reason:
        return
    if double.corrupt and data:
        double.corrupt -= 1
        data[len(data) // 2] ^= 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(int(mode) & 0o777)
    stream.write(struct.pack("<4sI", b"OKAY", 0))


def why_not(double: AdbDouble, target: Path, size: int) -> str:
    """Return why a file of this size cannot be written, empty if it can."""
    if not target.is_relative_to(double.folder):
        return "couldn't create file: Permission denied"
    return "write failed: No space left on device" if double.space_bytes is not None and size > double.space_bytes else ""


def fail(stream: Stream, reason: str) -> None:
    stream.write(struct.pack("<4sI", b"FAIL", len(reason)) + reason.encode())
