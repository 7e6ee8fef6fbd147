"""A real adbd for the tests, as `adbd/build.sh` builds and `adbd/run.sh` runs it, and the faults that a real phone has.

`real_adbd()` is a context manager; a test that uses it carries `@pytest.mark.device_services`. Clients reach the daemon at `host` and
`port`, which are those of a relay that can be cut. The device has Debian's mksh and toybox, `getprop` out of `system/build.prop`, and no
other Android program: what a test puts into `system_bin` or `sys` while it runs is there at once.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tcp_relay import TcpRelay

HERE = Path(__file__).parent / "adbd"
ADBD = HERE.parent.parent / ".cache" / "adbd" / "adbd"
PORT = 15555  # outside 5555 to 5585, whose odd ports an adb server takes for emulators
NUMBERS = itertools.count()

PROPERTIES = {
    "ro.product.model": "Pixel 1",
    "ro.product.manufacturer": "Google",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.build.version.sdk": "29",
    "ro.build.version.release": "10",
    "ro.board.platform": "msm8996",
    "ro.serialno": "FA6A70300001",
}
GETPROP = """#!/system/bin/sh
# Plays Android's getprop out of /system/build.prop.
if [ $# = 0 ]; then
    while IFS='=' read -r key value; do echo "[$key]: [$value]"; done </system/build.prop
else
    while IFS='=' read -r key value; do [ "$key" = "$1" ] && echo "$value" && exit; done </system/build.prop
    echo "${2-}"
fi
"""


@dataclass
class RealAdbd:
    """A running daemon. `folder` is where its device's folders are on this machine; `root` is the device's / as root sees it from here."""

    folder: Path
    relay: TcpRelay
    key: Path
    root: Path
    process: subprocess.Popen[bytes]
    properties: dict[str, str] = field(default_factory=lambda: dict(PROPERTIES))

    @property
    def host(self) -> str:
        """Where clients reach it."""
        return self.relay.host

    @property
    def port(self) -> int:
        """Where clients reach it."""
        return self.relay.port

    @property
    def serial(self) -> str:
        """What both clients call a device reached by network."""
        return f"{self.host}:{self.port}"

    @property
    def system_bin(self) -> Path:
        """The device's /system/bin, on this machine: programs put here are there at once."""
        return self.folder / "system" / "bin"

    @property
    def sys(self) -> Path:
        """The device's /sys, on this machine, empty at first: files for clocks and temperatures go here."""
        return self.folder / "sys"

    def path(self, device_path: str) -> Path:
        """Return where a file of the device is on this machine."""
        return self.root / device_path.lstrip("/")

    def install(self, name: str, program: bytes | str) -> None:
        """Put a program into /system/bin, in place of one that is there."""
        content = program.encode() if isinstance(program, str) else program
        unfinished = self.system_bin / f".{name}"
        unfinished.write_bytes(content)
        unfinished.chmod(0o755)
        unfinished.replace(self.system_bin / name)

    def set_properties(self, **values: str) -> None:
        """Change what getprop says; two underscores stand for a dot."""
        self.properties.update({name.replace("__", "."): value for name, value in values.items()})
        write_properties(self.folder, self.properties)

    # --- faults ---------------------------------------------------------------------------------------------------------------

    def revoke_keys(self) -> None:
        """Forget every key, as *Revoke USB debugging authorisations* does, and end the connections, as unplugging afterwards does."""
        self.path("/data/misc/adb/adb_keys").write_bytes(b"")
        self.relay.reset()

    def authorise(self, key: Path | None = None) -> None:
        """Accept a key (the fixture's own if none is named) from the next connection on."""
        public = Path(f"{key or self.key}.pub").read_bytes()
        with self.path("/data/misc/adb/adb_keys").open("ab") as keys:
            keys.write(public.rstrip(b"\n") + b"\n")

    def kill_daemon(self) -> None:
        """Kill the daemon alone; init starts it again, and other processes of the device go on."""
        for pid in self.pids("adbd"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def reboot(self) -> None:
        """Kill every process of the device but its init, which starts the daemon again."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def fill_disk(self, leaving_bytes: int = 0) -> None:
        """Fill /data/local/tmp but for so many bytes."""
        self.free_disk()
        folder = self.path("/data/local/tmp")
        for _ in range(100):  # what runs there may write at the same time
            file_system = os.statvfs(folder)
            size = file_system.f_bavail * file_system.f_frsize - leaving_bytes
            with contextlib.suppress(OSError), (folder / "filling").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                return
        raise RuntimeError(f"{folder} cannot be filled")

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        self.path("/data/local/tmp/filling").unlink(missing_ok=True)

    def pids(self, name: str | None = None) -> list[int]:
        """Return this machine's numbers of the device's processes, its init left out, or of those with one name only."""
        init = child_of(self.process.pid)
        space = os.readlink(f"/proc/{init}/ns/pid")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") != space or int(folder.name) == init:
                    continue
                if name is None or (folder / "comm").read_text().strip() == name:
                    found.append(int(folder.name))
        return sorted(found)


def missing() -> str | None:
    """Return why this machine cannot run a real adbd, or None where it can."""
    if not ADBD.exists():
        return "no adbd here: build it with tests/adbd/build.sh"
    if os.geteuid() != 0:
        return "running adbd in namespaces of its own needs root"
    programs = [name for name in ("mksh", "toybox", "ip", "unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if programs:
        return f"running adbd needs {', '.join(programs)} (Debian: mksh toybox iproute2 util-linux)"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"this machine makes no namespaces: {tried.stderr.strip()}" if tried.returncode else None


@contextlib.contextmanager
def real_adbd(disk_mb: int = 64) -> Iterator[RealAdbd]:
    """Run a device of one's own; where the machine cannot, the test is skipped with the reason."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="real-adbd-"))
    try:
        folder.chmod(0o755)  # the user `shell` of the device is nobody's user here
        furnish(folder)
        number = os.getpid() % 128 * 128 + next(NUMBERS) % 128  # of its own beside those of other test processes
        addresses = [f"10.78.{number // 64}.{number % 64 * 4 + end}" for end in (1, 2)]
        with (folder / "run.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", HERE / "run.sh", ADBD, folder, f"adbd{number}", *addresses, str(PORT), str(disk_mb)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            root = wait_until_ready(folder, process)
            with TcpRelay((addresses[1], PORT)) as relay:
                yield RealAdbd(folder, relay, folder / "adbkey", root, process)
        finally:
            process.kill()
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def furnish(folder: Path) -> None:
    """Lay out /system and /sys of a device, and its key."""
    for name in ("system/bin", "sys", "root"):
        (folder / name).mkdir(parents=True)
    binaries = folder / "system" / "bin"
    for name, program in (("sh", "mksh"), ("toybox", "toybox")):
        shutil.copy(shutil.which(program) or program, binaries / name)
    applets = subprocess.run(["toybox"], capture_output=True, text=True, check=True).stdout.split()
    for name in applets:
        if not (binaries / name).exists():
            (binaries / name).symlink_to("toybox")
    (binaries / "getprop").write_text(GETPROP)
    (binaries / "getprop").chmod(0o755)
    write_properties(folder, PROPERTIES)
    write_key(folder / "adbkey")
    shutil.copy(folder / "adbkey.pub", folder / "adb_keys")


@functools.cache
def key_pair() -> tuple[bytes, bytes]:
    """Return a private key and its public half, made once: making one takes a second on a busy machine."""
    from device_agents.android import keys

    with tempfile.TemporaryDirectory() as folder:
        keys.make(Path(folder, "adbkey"))
        return Path(folder, "adbkey").read_bytes(), Path(folder, "adbkey.pub").read_bytes()


def write_key(path: Path) -> Path:
    """Write the tests' key, and its public half beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key_pair()[0])
    path.chmod(0o600)
    path.with_name(f"{path.name}.pub").write_bytes(key_pair()[1])
    return path


def write_properties(folder: Path, properties: dict[str, str]) -> None:
    (folder / "system" / "build.prop").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> Path:
    """Return the device's root folder once its daemon listens."""
    for _ in range(200):
        time.sleep(0.05)
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, IndexError):
            root = Path(f"/proc/{child_of(process.pid)}/root") / str(folder / "root").lstrip("/")
            listening = f":{PORT:04X} " in "".join((root / "proc" / "1" / "net" / name).read_text() for name in ("tcp", "tcp6"))
            if (root / "ready").exists() and listening:
                return root
    said = "".join((folder / name).read_text(errors="replace") for name in ("run.log", "adbd.log") if (folder / name).exists())
    raise RuntimeError(f"adbd does not start: {said[-1000:] or 'it says nothing'}")
