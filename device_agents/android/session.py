"""A session on a phone: a folder for what is pushed, and a keeper that undoes all of it should this computer be gone.

The folder is `session` in the device's own one. It holds `owner`, `restore.sh` (ends batches, sets settings back, removes
the folder), `keeper.sh` (runs that when `alive` has not been touched for a while), models, the runner, and one folder a batch.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from device_agents.android import batch
from device_agents.android import session_scripts as scripts
from device_agents.android.settings import Change, refused
from device_agents.android.transport import ConnectionLost, Finished, Transport, words
from device_agents.base import DeviceError, DeviceUnreachable

Result = TypeVar("Result")

LEASE_S = 300  # of silence after which the phone sets itself back; pauses for cooling are shorter
KEEPER_LOOKS_EVERY_S = 5
BUNDLE_BYTES = 32 << 20  # of models that are sent as one file
RECONNECT_PAUSES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # a phone that restarts is back after about a minute
CLOSING_PAUSES_S = (0.1, 0.5, 1.0)
UNPACK_TIMEOUT_S = 120.0
FULL_BYTES = 64 << 10  # what a visit writes is kept by a disk with more left than that


class Session:
    """The use of a phone, from `begin` to `end`; calls that find the connection lost make it again and go on."""

    def __init__(self, transport: Transport, device: str, folder: str, *, root: str = "", lease_s: int = LEASE_S,
                 sleep: Callable[[float], None] = time.sleep) -> None:  # fmt: skip
        self.transport, self.device, self._sleep, self._root, self._lease_s = transport, device, sleep, root, lease_s
        self.base = PurePosixPath(folder)
        self.folder = self.base / "session"
        self.token = secrets.token_hex(8)
        self.owner = f"{socket.gethostname()} {os.getpid()} {self.token}"
        self.changes: list[Change] = []
        self.lost_connections = 0
        self._batches = 0

    # --- one call, made again where the connection was lost --------------------------------------------------------------

    def again(self, call: Callable[[], Result], pauses_s: Sequence[float] | None = None) -> Result:
        """Return what a call returns that may be made twice; a lost connection is made again, with growing pauses."""
        for pause_s in RECONNECT_PAUSES_S if pauses_s is None else pauses_s:
            try:
                return call()
            except ConnectionLost:
                self.lost_connections += 1
                self._sleep(pause_s)
        return call()

    def shell(self, script: str, timeout_s: float = 20.0) -> Finished:
        """Run a script that may be run twice."""
        return self.again(lambda: self.transport.shell(script, timeout_s))

    # --- begin and end ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, changes: Iterable[Change] = ()) -> Iterator[Session]:
        """Give the begun session; it is ended afterwards, however that comes about."""
        self.begin()
        try:
            self.keep(changes)
            yield self
        finally:
            self.end()

    def begin(self) -> None:
        """Make the session's folder, or take over one whose owner is gone.

        Raises:
            DeviceError: somebody else measures on this phone, or the folder cannot be written to.
        """
        values = {"folder": words([str(self.base)]), "session": words([str(self.folder)]), "owner": words([self.owner]),
                  "busy": scripts.BUSY, "up": batch.UP,
                  "restore": self._path("restore.sh")}  # fmt: skip
        ended = self.shell(scripts.BEGIN.format(**values))
        if ended.exit_code == scripts.BUSY and _is_gone(ended.text.strip()):
            self.shell(self._end_script())
            ended = self.shell(scripts.BEGIN.format(**values))
        if ended.exit_code == scripts.BUSY:
            raise DeviceError(f"device {self.device!r} is being measured by {ended.text.strip()!r} (computer, process); wait for its end")
        if ended.exit_code:
            said = ended.stderr.decode(errors="replace").strip()[-200:]
            raise DeviceError(f"device {self.device!r} has no folder {str(self.base)!r} to write to ({said}); set `folder` to one its shell may use")

    def keep(self, changes: Iterable[Change] = ()) -> None:
        """Start the keeper, then set what the phone takes; called again after it restarted."""
        wanted = list(changes) or self.changes
        restore = scripts.RESTORE.format(session=words([str(self.folder)]), changes="\n".join(f"{c.restore} >/dev/null 2>&1" for c in wanted))
        keeper = scripts.KEEPER.format(session=words([str(self.folder)]), up=batch.UP, root=words([self._root]), every=KEEPER_LOOKS_EVERY_S,
                               lease=self._lease_s, restore=self._path("restore.sh"))  # fmt: skip
        self.push("restore.sh", restore.encode())
        self.push("keeper.sh", keeper.encode())
        started = self.shell(scripts.START_KEEPER.format(session=words([str(self.folder)]), up=batch.UP, root=words([self._root])))
        if started.exit_code:
            raise DeviceError(f"device {self.device!r} lost its folder {str(self.folder)!r} meanwhile; measure again")
        self.changes = [change for change in wanted if self._take(change)]

    def _take(self, change: Change) -> bool:
        ended = self.shell(change.apply)
        return not refused(ended.exit_code, ended.text + ended.stderr.decode(errors="replace"))

    def end(self) -> None:
        """Undo everything; where the phone cannot be reached now, its keeper does so later."""
        with contextlib.suppress(DeviceError):
            self.again(lambda: self.transport.shell(self._end_script()), CLOSING_PAUSES_S)

    def _end_script(self) -> str:
        return scripts.END.format(session=words([str(self.folder)]), restore=self._path("restore.sh"))

    # --- files -----------------------------------------------------------------------------------------------------------

    def push(self, name: str, data: bytes, mode: int = 0o644) -> str:
        """Write a file of the session and return its path on the phone.

        Raises:
            DeviceError: the phone does not take it; the text says whether it has no room.
        """
        path = str(self.folder / name)
        try:
            self.again(lambda: self.transport.push(data, path, mode))
        except DeviceUnreachable:
            raise
        except DeviceError as error:
            free = self._free_bytes()
            if free is None or free > len(data):
                raise
            raise DeviceError(f"device {self.device!r} has no space left for {path!r}: {free} of {len(data)} bytes; remove files there") from error
        return path

    def refuse_full_disk(self) -> None:
        """Raise DeviceError where the disk has no room for what a runner prints: a visit that failed there says nothing of the runner."""
        free = self._free_bytes()
        if free is not None and free < FULL_BYTES:
            raise DeviceError(
                f"device {self.device!r} has no space left for what its runner prints: {free} bytes are free; remove files there, and go on"
            )

    def _free_bytes(self) -> int | None:
        words_of_line = self.shell(f"df -k {words([str(self.folder)])} | tail -n 1").text.split()
        return int(words_of_line[-3]) * 1024 if len(words_of_line) >= 5 and words_of_line[-3].isdecimal() else None

    def push_models(self, models: Mapping[str, bytes], names: Sequence[str], suffix: str) -> dict[str, str]:
        """Send the models of these names, many as one file, and return each one's path on the phone.

        Raises:
            DeviceError: the phone has no room for them, or cannot unpack them.
        """
        paths = {name: f"m{number:05d}.{suffix}" for number, name in enumerate(names)}
        bundle: list[tuple[str, bytes]] = []
        size = 0
        for name in names:
            bundle.append((paths[name], models[name]))
            size += len(bundle[-1][1])
            if size >= BUNDLE_BYTES:
                self._push_bundle(bundle)
                bundle, size = [], 0
        if bundle:
            self._push_bundle(bundle)
        return {name: str(self.folder / file) for name, file in paths.items()}

    def _push_bundle(self, files: Sequence[tuple[str, bytes]]) -> None:
        if len(files) == 1:
            self.push(*files[0])
            return
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in files:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        path = self.push("models.tar", packed.getvalue())
        unpack = f"cd {words([str(self.folder)])} && tar -xf {words([path])} && rm -f {words([path])}"
        ended = self.again(lambda: self.transport.shell(f"[ -e {words([path])} ] || exit 0\n{unpack}", UNPACK_TIMEOUT_S))
        if ended.exit_code:
            said = ended.stderr.decode(errors="replace").strip()[-200:]
            raise DeviceError(
                f"device {self.device!r} could not unpack {len(files)} models of {packed.tell()} bytes ({said}); free some space on it, and go on"
            )

    def _path(self, name: str) -> str:
        return words([str(self.folder / name)])

    # --- batches ---------------------------------------------------------------------------------------------------------

    def start(self, tasks: Sequence[batch.Task], reading: batch.Reading, mask: str | None) -> str:
        """Set a batch going and return its folder."""
        folder = str(self.folder / f"b{self._batches}")
        self._batches += 1
        self.push(f"{PurePosixPath(folder).name}/batch.sh", batch.script(folder, tasks, reading, mask).encode())
        ended = self.shell(batch.start_script(folder))
        if ended.exit_code:
            self.refuse_full_disk()
            said = ended.stderr.decode(errors="replace").strip()[-200:]
            raise DeviceError(f"device {self.device!r} could not start a batch in {folder!r} ({said}); measure again")
        return folder

    def poll(self, folder: str, seen: int, reading: batch.Reading) -> batch.Polled | None:
        """Return what a batch did since; None where the phone has it no more."""
        ended = self.shell(batch.poll_script(folder, seen, self.token, reading, str(self.folder / "alive")))
        if ended.exit_code == batch.GONE:
            return None
        found = batch.polled(ended.stdout, seen, self.token)
        if found is None:
            self.refuse_full_disk()
            said = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-200:]
            raise DeviceError(f"device {self.device!r} answered a look at its batch with {said!r}; measure again")
        return found

    def stop(self, folder: str) -> None:
        """End a batch at once and remove its files."""
        self.shell(f"{batch.kill_script(folder)}rm -rf {words([folder])}")


def _is_gone(owner: str) -> bool:
    """Return whether an owner was a process of this computer that has ended."""
    parts = owner.split()
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdecimal():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return int(parts[1]) == os.getpid()
