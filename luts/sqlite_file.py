"""One SQLite file under SQLAlchemy: opened for reading without a trace, or for writing with a write-ahead log (WAL).

A commit survives the death of the process at any point; after a power cut the file is whole, and at most the commits
since the last checkpoint are gone (`synchronous=NORMAL`: waiting for the disk at each commit would cost more time than
measuring does). A file is made with the first thing written to it, so that a command that fails before leaves none.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

from luts import schema, versions
from luts.database import Database
from luts.errors import StoreBusyError, StoreError, StoreFullError, damaged

CHECKPOINT_INTERVAL_S = 5.0  # the most that a power cut can take

_SQLITE_HEADER = b"SQLite format 3\x00"
_WAL_FORMAT = b"\x02\x02"  # bytes 18 and 19 of the header: written and read through a write-ahead log


class SqliteFile(Database):
    """A store in one file.

    One of an older schema is read from a copy in memory, brought to the schema of today; to be written it is brought there
    itself, and the file as it was stays beside it, its name saying the old schema.

    Raises:
        FileNotFoundError: the file, or for a new one its folder, does not exist.
        StoreError: the file is no SQLite file, of another kind, or of a newer schema.
    """

    def __init__(self, path: Path, read_only: bool, busy_timeout_s: float) -> None:
        super().__init__(str(path), read_only)
        self.path, self._timeout_s = path, busy_timeout_s
        self._begin = "BEGIN"
        self._logging_ahead = self._closed = self._older = False
        self._checkpointed_s = time.monotonic()
        _check_path(path, read_only)
        self._absent = not read_only and not _has_content(path)
        self._raw: sqlite3.Connection | None = None
        self._engine = _engine(self._connect, lambda: self._begin)
        try:
            if not self._absent:
                self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """Check what the file is before anything is written to it."""
        with _one_sentence(self.name), closing(self._open_reading()) as raw, _engine(lambda: raw).connect() as connection:
            version = versions.version_of(connection, self.name)
        if version is None and self.read_only:
            raise StoreError(f"{self.name} is empty; expected measurements, as `profiler collect` writes them")
        self._absent = version is None
        if version is not None and version < schema.SCHEMA_VERSION:
            self._older = True
            if not self.read_only:
                self._bring_up(version)

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.name} is closed; open it again")
        self._raw = self._opened()
        return self._raw

    def _opened(self) -> sqlite3.Connection:
        if self._absent:
            return self._prepared(sqlite3.connect(":memory:", isolation_level=None))
        if not self.read_only:
            return self._open("mode=rwc")
        raw = self._open_reading()
        return self._prepared(_in_memory(raw)) if self._older else raw

    def _prepared(self, raw: sqlite3.Connection) -> sqlite3.Connection:
        with _engine(lambda: raw).begin() as connection:
            versions.prepare(connection, self.name)
        return raw

    def _open(self, options: str, path: Path | None = None) -> sqlite3.Connection:
        uri = f"{(path or self.path).absolute().as_uri()}?{options}"
        raw = sqlite3.connect(uri, uri=True, timeout=self._timeout_s, isolation_level=None, factory=_RolledBack)
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
        log, index, journal = (_beside(self.path, suffix) for suffix in ("-wal", "-shm", "-journal"))
        if journal.exists():  # a writer died while it made the file self-contained, or began to log ahead
            return self._open_copy(journal)
        if not log.exists():  # nobody has the file open, or it is not written through a log
            return self._open("mode=ro&immutable=1" if _header(self.path)[18:20] == _WAL_FORMAT else "mode=ro")
        if index.exists():
            return self._open("mode=ro")
        # Left by a writer that died, or copied together: reading the log needs an index beside it, so read from a copy.
        return self._open_copy(log)

    def _open_copy(self, beside: Path) -> sqlite3.Connection:
        """Return the file as a writer would find it, after what lies beside it was played in or back."""
        with tempfile.TemporaryDirectory(prefix="measurements-") as folder:
            copies = [Path(shutil.copyfile(source, Path(folder, source.name))) for source in (self.path, beside)]
            return _in_memory(self._open("mode=rw", copies[0]))

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a transaction that sees one state of the file."""
        if self._absent and _has_content(self.path):  # made by another process meanwhile
            self._begin_file()
        return self._transaction("BEGIN")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._absent:
            self._begin_file()
        self._log_ahead()
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection
        if time.monotonic() - self._checkpointed_s > CHECKPOINT_INTERVAL_S:
            self._pragma("wal_checkpoint(PASSIVE)")
            self._checkpointed_s = time.monotonic()

    def _begin_file(self) -> None:
        """Go on in the file itself, made where there is none."""
        self._absent = False
        self._disconnect()
        self._log_ahead()
        with self._transaction("BEGIN IMMEDIATE") as connection:
            versions.prepare(connection, self.name)

    def _bring_up(self, version: int) -> None:
        """Bring the file to the schema of today; as it was, it stays under another name."""
        self._log_ahead()
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if versions.version_of(connection, self.name) == version:  # else another process was faster
                self._keep(self.path.with_name(f"{self.path.stem}.schema{version}{self.path.suffix}"))
                versions.prepare(connection, self.name)

    def _keep(self, kept: Path) -> None:
        """Copy what is committed to `kept`, whole or not at all; the same copy may be there already."""
        part = _beside(kept, ".part")
        with closing(self._open("mode=ro")) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        try:
            if kept.exists() and not filecmp.cmp(part, kept, shallow=False):
                raise StoreError(f"{self.name} is of an older schema and would be kept as {kept}, but that is another file; move that away")
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with _one_sentence(self.name):
            self._begin = begin
            try:
                with self._engine.begin() as connection:
                    yield connection
            except Exception:
                raise
            except BaseException:  # an interrupt leaves the connection at any point: the next transaction gets another
                self._disconnect()
                raise

    def _pragma(self, text: str) -> tuple[object, ...]:
        with _one_sentence(self.name):
            raw = self._engine.raw_connection()
            try:
                return tuple(raw.cursor().execute(f"PRAGMA {text}").fetchone())
            finally:
                raw.close()

    def _log_ahead(self) -> None:
        if not self._logging_ahead:
            self._pragma("journal_mode = WAL")
            self._logging_ahead = True

    def finish(self) -> None:
        """Make the file self-contained: no log beside it, unless another process has it open."""
        if self.read_only or self._absent or self._closed:
            return
        with suppress(StoreBusyError):
            self._pragma("busy_timeout = 0")
            self._pragma("wal_checkpoint(TRUNCATE)")
            self._pragma("journal_mode = DELETE")
        self._pragma(f"busy_timeout = {round(self._timeout_s * 1000)}")
        self._logging_ahead = False

    def close(self) -> None:
        """Close the connection; what is committed stays."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        self._engine.dispose()
        if self._raw is not None:
            self._raw.close()  # the pool may have lost it to an interrupt


class _RolledBack(sqlite3.Connection):
    """A connection that ends its transaction when closed; SQLite leaves it open, and the file locked, as long as any cursor lives."""

    def close(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # closed already
            self.rollback()
        super().close()


def _engine(connect: Callable[[], sqlite3.Connection], begin: Callable[[], str] = lambda: "BEGIN") -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin()))
    return engine


def _in_memory(raw: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database, which is closed."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(raw):
        raw.backup(copy)
    return copy


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


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
        if not os.access(path.absolute().parent, os.W_OK):
            raise PermissionError(f"{path} cannot be made; choose a folder that you may write in")
    elif path.stat().st_size and not _beside(path, "-wal").exists() and not _header(path).startswith(_SQLITE_HEADER):
        raise StoreError(f"{path} is not a file of measurements; expected an SQLite file, as `profiler collect` writes it")


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # the caller knows what it contradicts
    except UnicodeDecodeError as error:  # SQLite's own sentence quotes bytes of a damaged file
        raise damaged(name, error.reason) from error
    except (DBAPIError, sqlite3.Error) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error)
        if "disk is full" in reason:
            raise StoreFullError(
                f"{name} cannot grow, the disk is full; everything before is kept: make room and run the same command again"
            ) from error
        if "locked" in reason or "busy" in reason:
            raise StoreBusyError(f"{name} is in use by another process; wait until that has ended, or write to another file") from error
        if "readonly" in reason:
            raise PermissionError(f"{name} cannot be written; make the file and its folder writable, or copy it") from error
        if any(words in reason for words in ("not a database", "malformed", "no such", "decode")):
            raise damaged(name, reason) from error
        raise OSError(f"{name} could not be read or written: {reason}") from error
