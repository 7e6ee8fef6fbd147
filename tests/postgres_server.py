"""A PostgreSQL server of the tests' own: an unprivileged process in a temporary folder, reached through a socket there only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def binaries() -> Path:
    """Return the folder of the server's programs; where there is none, or no driver, the test is skipped."""
    pytest.importorskip("psycopg", reason="a store on PostgreSQL needs the package psycopg")
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("no PostgreSQL server here: initdb is neither on PATH nor in /usr/lib/postgresql/*/bin (Debian: apt-get install postgresql)")


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server, and yield the URL of an empty database at it; the server has ended afterwards."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="store-postgres-"))
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}  # it refuses to run as root
    if user:
        os.chown(folder, NOBODY, NOBODY)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "tests", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **user,
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                stderr=log, cwd=folder, **user,
            )  # fmt: skip
        url = f"postgresql://tests@/postgres?host={folder}"
        try:
            wait_for(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    for _ in range(300):
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the PostgreSQL server does not answer: {log.read_text()}")
