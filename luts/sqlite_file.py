"""One SQLite file under SQLAlchemy: opened for reading without a trace, or for writing with a write-ahead log (WAL).

A commit survives the death of the process at any point; after a power cut the file is whole, and at most the commits
since the last checkpoint are gone (`synchronous=NORMAL`: waiting for the disk at each commit would cost more time than
measuring does). Every SQLite error leaves here as one sentence that names the file.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

_SQLITE_HEADER = b"SQLite format 3\x00"
_WAL_FORMAT = b"\x02\x02"  # bytes 18 and 19 of the header: written and read through a write-ahead log


class StoreError(ValueError):
    """A file that is not what it should be: another kind, a newer schema, another condition, or a contradiction with what is in it."""


class StoreFullError(OSError):
    """The disk is full; everything committed before is kept."""


class StoreBusyError(TimeoutError):
    """Another process is writing the file, and did not end within the busy timeout."""


def file_path(url_or_path: str | Path) -> Path:
    """Return the path in a path or an `sqlite:///` URL.

    Raises:
        StoreError: a URL of another database.
    """
    text = str(url_or_path)
    if "://" not in text:
        return Path(text)
    if not text.startswith("sqlite:///") or text == "sqlite:///":
        raise StoreError(f"{text} is not a place for measurements; expected the path of a file, or sqlite:/// and a path")
    return Path(text.removeprefix("sqlite:///"))


class SqliteFile:
    """A connection to one file; `reading()` and `writing()` are its transactions.

    Raises:
        FileNotFoundError: the file, or for a new one its folder, does not exist.
        StoreError: the file is no SQLite file.
    """

    def __init__(self, path: Path, read_only: bool, busy_timeout_s: float) -> None:
        self.path, self.read_only = path, read_only
        self._timeout_s = busy_timeout_s
        self._logging_ahead = False
        self._begin = "BEGIN"
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        with _one_sentence(path):
            _check_path(path, read_only)
            self._raw = self._open_reading() if read_only else self._open("mode=rwc")
        self._engine = create_engine("sqlite://", creator=lambda: self._raw, poolclass=StaticPool)
        event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql(self._begin))
        self._connection = self._engine.connect()

    def _open(self, options: str, path: Path | None = None) -> sqlite3.Connection:
        uri = f"{(path or self.path).absolute().as_uri()}?{options}"
        raw = sqlite3.connect(uri, uri=True, timeout=self._timeout_s, isolation_level=None)
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("PRAGMA synchronous = NORMAL")
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            raw.close()
            raise
        return raw

    def _open_reading(self) -> sqlite3.Connection:
        """Return a connection that leaves file and folder as they are, be they writable or not."""
        log, index = _beside(self.path, "-wal"), _beside(self.path, "-shm")
        if not log.exists():  # nobody has the file open, or it is not written through a log
            return self._open("mode=ro&immutable=1" if _header(self.path)[18:20] == _WAL_FORMAT else "mode=ro")
        if index.exists():
            return self._open("mode=ro")
        # Left by a writer that died, or copied together: reading the log needs an index beside it, so read from a copy.
        self._copy = tempfile.TemporaryDirectory(prefix="measurements-")
        copies = [Path(shutil.copyfile(source, Path(self._copy.name, source.name))) for source in (self.path, log)]
        return self._open("mode=rw", copies[0])

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run a transaction that sees one state of the file."""
        yield from self._transaction("BEGIN")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a transaction that is committed at the end, or rolled back on any error.

        Raises:
            StoreError: the file was opened for reading.
            StoreFullError: the disk is full.
            StoreBusyError: another process is writing.
        """
        if self.read_only:
            raise StoreError(f"{self.path} is opened for reading only; open it for writing to add to it")
        if not self._logging_ahead:
            with _one_sentence(self.path):
                self._raw.execute("PRAGMA journal_mode = WAL")
            self._logging_ahead = True
        yield from self._transaction("BEGIN IMMEDIATE")

    def _transaction(self, begin: str) -> Iterator[Connection]:
        with _one_sentence(self.path):
            self._begin = begin
            with self._connection.begin():
                yield self._connection

    def checkpoint(self) -> None:
        """Bring what is committed from the log into the file, and to the disk, as far as readers allow."""
        with _one_sentence(self.path):
            self._raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def finish(self) -> None:
        """Make the file self-contained: no log beside it.

        Raises:
            StoreBusyError: another process has the file open.
        """
        with _one_sentence(self.path):
            if not self.read_only and self._raw.execute("PRAGMA journal_mode").fetchone() != ("delete",):
                self._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._raw.execute("PRAGMA journal_mode = DELETE").fetchall()
                self._logging_ahead = False

    def close(self) -> None:
        """Close the connection; what is committed stays."""
        self._connection.close()
        self._engine.dispose()
        self._raw.close()
        if self._copy is not None:
            self._copy.cleanup()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _header(path: Path) -> bytes:
    """Return the first bytes; never of a file this process may be writing: closing it would drop the writer's locks."""
    with path.open("rb") as file:
        return file.read(20)


def _check_path(path: Path, read_only: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder; expected a file of measurements")
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} is no regular file; expected a file of measurements")
    if not path.exists():
        if read_only:
            raise FileNotFoundError(f"there is no file {path}; expected measurements, as `profiler collect` writes them")
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.absolute().parent} to write {path.name} in; make it first")
    elif path.stat().st_size and not _beside(path, "-wal").exists() and not _header(path).startswith(_SQLITE_HEADER):
        raise StoreError(f"{path} is not a file of measurements; expected an SQLite file, as `profiler collect` writes it")


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # the caller knows what it contradicts
    except (DBAPIError, sqlite3.Error) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error)
        if "disk is full" in reason:
            raise StoreFullError(
                f"{path} cannot grow, the disk is full; everything before is kept: make room and run the same command again"
            ) from error
        if "locked" in reason or "busy" in reason:
            raise StoreBusyError(f"{path} is in use by another process; wait until that has ended, or write to another file") from error
        if "readonly" in reason:
            raise PermissionError(f"{path} cannot be written; make the file and its folder writable, or copy it") from error
        if any(words in reason for words in ("not a database", "malformed", "no such")):
            raise StoreError(f"{path} is damaged or not a file of measurements ({reason}); take a copy, or measure again") from error
        raise OSError(f"{path} could not be read or written: {reason}") from error
