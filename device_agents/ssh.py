"""A Raspberry Pi, or any Linux host with an SSH server: its own Python runs our packed worker there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from device_agents.base import Check, DeviceError, RuntimeMissing
from device_agents.on_device.runtimes import UNLISTED
from device_agents.ssh_channel import SshChannel
from device_agents.ssh_connection import SshConnection
from device_agents.ssh_folder import FolderRefused, PythonUnfit, RemoteFolder, RemotePython
from device_agents.ssh_hosts import SshHost
from device_agents.ssh_login import HostKeyRefused, LoginRefused
from device_agents.worker_agent import TIMEOUT_S, WorkerAgent

DEFAULT_PYTHON = "python3"
DEFAULT_VENV = "~/.elastic-latency/venv"


class SshAgent(WorkerAgent):
    """Times models on a host that SSH reaches, in a fresh worker process for each `measure`, pinned to `cores` ([] does not pin).

    `host` is a name of ~/.ssh/config, HOST, or USER@HOST:PORT. `python` is what runs the worker: without it the one of the
    virtual environment `venv` where that exists, else python3. `folder` is where a private folder is made, which is gone
    afterwards. Paths may begin with ~/, the home there. Nothing is connected before it is needed.

    Raises (constructor):
        ValueError: a setting is out of range or unknown.
    """

    setting_names: ClassVar[tuple[str, ...]] = (
        "host", "port", "user", "key", "known_hosts", "python", "venv", "folder", "runtime", "threads", "cores", "batch", "precision", "timeout_s",
    )  # fmt: skip

    def __init__(self, device: str = "ssh", *, host: str, port: int | None = None, user: str | None = None, key: str | None = None,
                 known_hosts: str | None = None, python: str | None = None, venv: str = DEFAULT_VENV, folder: str | None = None,
                 runtime: str = "onnxruntime", threads: int = 1, cores: Sequence[int] | None = None, batch: int = 1, precision: str = "float32",
                 timeout_s: float = TIMEOUT_S, worker_archive: bytes | None = None) -> None:  # fmt: skip
        super().__init__(device, runtime=runtime, threads=threads, cores=cores, batch=batch, precision=precision, timeout_s=timeout_s,
                         worker_archive=worker_archive)  # fmt: skip
        self.host = SshHost.of_settings(host, port, user, key, known_hosts)
        self.python = None if python is None else _word("python", python)
        self.venv = _word("venv", venv)
        self.folder = None if folder is None else _word("folder", folder)
        self._connection: SshConnection | None = None
        self._remote: RemoteFolder | None = None
        self._program = ""  # the worker's archive in the folder

    def connection(self) -> SshConnection:
        """Return the connection to the host, opened where there is none, or none any more.

        Raises:
            DeviceUnreachable: it cannot be opened.
            ImportError: asyncssh is not installed.
        """
        if self._connection is None or self._connection.is_lost:
            self._disconnect()
            self._connection = SshConnection(self.host, self.device)
        return self._connection

    def path_there(self, path: str) -> str:
        """Return a path of the settings as the device takes it."""
        return f"{self.connection().home()}{path[1:]}" if path == "~" or path.startswith("~/") else path

    def python_there(self) -> str:
        """Return the command of the Python that runs the worker."""
        if self.python is not None:
            return self.path_there(self.python)
        in_venv = f"{self.path_there(self.venv)}/bin/python"
        return in_venv if self.connection().is_file(in_venv) else DEFAULT_PYTHON

    def remote_folder(self) -> RemoteFolder:
        """Return the private folder on the device, with the worker's program in it.

        Raises:
            DeviceError: it cannot be made; PythonUnfit, FolderRefused, DeviceUnreachable of these.
        """
        if self._remote is None or self._remote.is_lost:
            connection = self.connection()
            if self._remote is not None:
                self._remote.close()
            self._remote = None
            remote = RemoteFolder(connection, self.python_there(), None if self.folder is None else self.path_there(self.folder))
            try:
                self._program = remote.put(self._archive)
            except BaseException:
                remote.close()
                raise
            self._remote = remote
        return self._remote

    @contextmanager
    def _place(self) -> Iterator[_SshPlace]:
        remote = self.remote_folder()
        try:
            yield _SshPlace(self.connection(), remote, self._program, self.device, self.runtime)
        except RuntimeMissing as error:
            raise RuntimeMissing(f"{error}; or let this do it: profiler devices --bootstrap {self.device}") from error

    def checks(self) -> Iterator[Check]:
        """Yield the steps that measuring takes, each as soon as it is proved; a failed one is the last."""
        reached, known = f"an SSH server answers at {self.host}", "the one that is known"
        try:
            connection = self.connection()
        except HostKeyRefused as error:
            yield from (Check("reachable", True, reached), Check("host key", False, str(error)))
            return
        except LoginRefused as error:
            yield from (Check("reachable", True, reached), Check("host key", True, known), Check("login", False, str(error)))
            return
        except (DeviceError, ImportError) as error:
            yield Check("reachable", False, str(error))
            return
        yield Check("reachable", True, reached)
        yield Check("host key", True, f"{known}: {connection.fingerprint}")
        yield Check("login", True, f"as {connection.user}")
        try:
            remote = self.remote_folder()
        except PythonUnfit as error:
            yield Check("python", False, str(error))
            return
        except FolderRefused as error:
            yield Check("folder", False, str(error))
            return
        except DeviceError as error:
            yield Check("folder", False, str(error))
            return
        yield Check("python", True, f"{remote.python.command}, Python {remote.python.version}, numpy {remote.python.numpy_version or 'missing'}")
        yield Check("folder", True, f"{remote.path} was written, and will be removed")
        yield from super().checks()

    def close(self) -> None:
        """End workers that still run, remove the folder, and end the connection."""
        super().close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._remote is not None:
            self._remote.close()
        if self._connection is not None:
            self._connection.close()
        self._remote = self._connection = None


class _SshPlace:
    """The agent's folder on the device."""

    def __init__(self, connection: SshConnection, remote: RemoteFolder, program: str, device: str, runtime: str) -> None:
        self._connection, self._remote, self._program, self._device, self._runtime = connection, remote, program, device, runtime

    def start(self) -> SshChannel:
        python: RemotePython = self._remote.python
        if python.numpy_version is None and self._runtime not in UNLISTED:
            raise RuntimeMissing(f"{self._connection.who} has no numpy for {python.command!r} (Python {python.version}); install it there with pip")
        return SshChannel(self._connection, [python.command, "-I", self._program], self._device)

    def put(self, data: bytes) -> str:
        return self._remote.put(data)

    def get(self, path: str) -> bytes:
        return self._connection.get(path)

    def remove(self, path: str) -> None:
        self._connection.remove(path)

    def allowed_cores(self) -> list[int] | None:
        cores = self._remote.python.allowed_cores
        return None if cores is None else list(cores)


def _word(name: str, value: Any) -> str:
    """Return a setting that becomes one word of a command there."""
    if not isinstance(value, str) or not value or value.startswith("-") or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError(f"{name} is {value!r}; expected text without control characters that does not begin with -")
    return value
