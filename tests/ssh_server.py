"""A real SSH server inside the test's own process, by asyncssh: commands are run by /bin/sh of this machine, files by its SFTP.

It serves quick tests without root; what OpenSSH does is tested with OpenSSH (`real_sshd.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh


@dataclass
class Server:
    """A running server, and the files by which it is reached."""

    port: int
    home: Path  # of the user who runs the tests: .ssh is in it, and logins begin in it
    key: Path
    known_hosts: Path
    environment: dict[str, str]
    commands: list[str] = field(default_factory=list)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    children: list[asyncio.subprocess.Process] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None

    def settings(self, **more) -> dict:
        return {"host": "127.0.0.1", "port": self.port, "key": str(self.key), "known_hosts": str(self.known_hosts), **more}

    def cut(self) -> None:
        """Reset all connections."""

        def abort() -> None:
            for connection in self.connections:
                connection.abort()

        self.loop.call_soon_threadsafe(abort)


@contextlib.contextmanager
def ssh_server(
    folder: Path,
    environment: dict[str, str] | None = None,
    sftp: bool = True,
    before: str = "",
    forwards: bool = False,
    host_keys: Sequence[str] = ("ssh-ed25519",),
) -> Iterator[Server]:
    """Run a server with one user key and one host key of each kind made for it; its known_hosts has the first."""
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    shown = [asyncssh.generate_private_key(kind) for kind in host_keys]
    key, known_hosts, home = folder / "id_ed25519", folder / "known_hosts", folder / "home"
    home.mkdir()
    user_key.write_private_key(str(key))
    key.chmod(0o600)
    server = Server(0, home, key, known_hosts, {**os.environ, "HOME": str(home), "TMPDIR": str(folder), **(environment or {})})

    class Watched(asyncssh.SSHServer):
        def connection_made(self, connection):
            server.connections.append(connection)

        def connection_requested(self, *_) -> bool:
            return forwards

    async def handle(process: asyncssh.SSHServerProcess) -> None:
        server.commands.append(process.command)
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", before + process.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=server.environment, cwd=home, start_new_session=True,
        )  # fmt: skip

        server.children.append(child)

        async def pass_on_input() -> None:
            while True:
                try:
                    data = await process.stdin.read(1 << 16)
                except asyncssh.SignalReceived as received:
                    os.killpg(child.pid, signal.Signals[f"SIG{received.signal}"])
                    continue
                except (asyncssh.Error, OSError):
                    break
                if not data:
                    break
                child.stdin.write(data)
            child.stdin.close()

        async def pass_on(source: asyncio.StreamReader, target: asyncssh.SSHWriter) -> None:
            while data := await source.read(1 << 16):
                with contextlib.suppress(OSError):  # the client is gone
                    target.write(data)

        giving = asyncio.ensure_future(pass_on_input())
        await asyncio.gather(pass_on(child.stdout, process.stdout), pass_on(child.stderr, process.stderr))
        code = await child.wait()
        giving.cancel()
        with contextlib.suppress(OSError, asyncssh.Error):
            process.exit(code) if code >= 0 else process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))

    class Files(asyncssh.SFTPServer):
        def realpath(self, path: bytes) -> bytes:
            return os.fsencode(os.path.realpath(os.path.join(home, os.fsdecode(path))))

    loop = server.loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin():
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=shown, authorized_client_keys=asyncssh.import_authorized_keys(
                user_key.export_public_key().decode()), server_factory=Watched, process_factory=handle, encoding=None,
            sftp_factory=Files if sftp else None,
        )  # fmt: skip

    listener = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    server.port = listener.sockets[0].getsockname()[1]
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {shown[0].export_public_key().decode()}")
    try:
        yield server
    finally:

        async def end():
            listener.close()
            for connection in server.connections:
                connection.abort()
            await listener.wait_closed()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for seconds in (3, 30):  # for what ends by itself, and then for the rest
                if others:
                    await asyncio.wait(others, timeout=seconds)
                for child in server.children:
                    if child.returncode is None:
                        os.killpg(child.pid, signal.SIGKILL)

        asyncio.run_coroutine_threadsafe(end(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def clean_ssh_server(folder: Path) -> Iterator[Server]:
    """Run a server, and see that nothing of ours stays on it."""
    with ssh_server(folder) as running:
        yield running
    gc.collect()
    assert list(folder.glob("elastic-latency-*")) == []
