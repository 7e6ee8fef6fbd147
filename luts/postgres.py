"""A store on a PostgreSQL server: the tables of one of its schemas (namespaces), for several collectors at once.

Writers take turns, as they do at a file: each transaction that writes holds a lock of the store's own. So an order of ids is an
order of time, and what a transaction has read is still so when it writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from luts import versions
from luts.database import Database
from luts.errors import StoreBusyError, StoreError, StoreFullError

PREFIXES = ("postgresql://", "postgres://")
CONNECT_TIMEOUT_S = 10
WRITERS_LOCK = 0x6C617473  # "lats"; the other half of the lock's number is the schema's

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgresDatabase(Database):
    """A store in the schema that the URL names as `?schema=NAME`, made where there is none, or in the server's default one.

    Raises:
        ConnectionError: the server cannot be reached, or refuses the user.
        StoreError: the URL is none, there is no such database, or the tables are of another kind or a newer schema.
    """

    def __init__(self, url: str, read_only: bool, busy_timeout_s: float) -> None:
        parsed = _parsed(url)
        super().__init__(parsed.render_as_string(hide_password=True), read_only)
        namespace = _namespace(parsed)
        self._engine = _engine(parsed, namespace, read_only, busy_timeout_s)
        try:
            with self.reading() as connection:
                version = versions.version_of(connection, self.name)
            if version is None and read_only:
                raise StoreError(f"{self.name} is empty; expected measurements, as `profiler collect` writes them")
            if not read_only:
                self._prepare(namespace)
        except BaseException:
            self.close()
            raise

    def _prepare(self, namespace: str | None) -> None:
        with self._transaction(self._engine) as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITERS_LOCK})
            if namespace is not None and connection.execute(text("SELECT current_schema()")).scalar_one() is None:
                connection.execute(CreateSchema(namespace))
        with self._writing() as connection:
            versions.prepare(connection, self.name)

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a transaction that sees one state of the store."""
        return self._transaction(self._engine.execution_options(isolation_level="REPEATABLE READ"))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._transaction(self._engine) as connection:  # its isolation lets it see what others committed while it waited
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock, hashtext(current_schema()))"), {"lock": WRITERS_LOCK})
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with _one_sentence(self.name), engine.begin() as connection:
            yield connection

    def finish(self) -> None:
        """Do nothing: the server keeps what is committed."""

    def close(self) -> None:
        """Close the connection; what is committed stays."""
        self._engine.dispose()


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"{url} is no URL; expected postgresql://USER@HOST:PORT/DATABASE?schema=NAME") from None


def _namespace(url: URL) -> str | None:
    namespace = url.query.get("schema")
    if namespace is not None and not (isinstance(namespace, str) and _SCHEMA_NAME.fullmatch(namespace)):
        raise StoreError(f"schema {namespace!r} is no name for a schema; expected one name of lower-case letters, digits and underscores")
    return namespace


def _engine(url: URL, namespace: str | None, read_only: bool, busy_timeout_s: float) -> Engine:
    options = f"-c lock_timeout={round(busy_timeout_s * 1000)}" + ("" if namespace is None else f" -c search_path={namespace}")
    if read_only:
        options += " -c default_transaction_read_only=on"
    arguments = {"connect_timeout": CONNECT_TIMEOUT_S, "options": options}
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg").difference_update_query(["schema"]), pool_size=1, pool_pre_ping=True, connect_args=arguments
        )
    except ModuleNotFoundError as error:
        raise ImportError("a store on PostgreSQL needs the package 'psycopg'; install it with pip install 'elastic-latency[postgres]'") from error


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # the caller knows what it contradicts
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        state = getattr(error.orig, "sqlstate", None)
        if state == "53100":
            raise StoreFullError(
                f"{name} cannot grow, the server's disk is full; everything before is kept: make room and run the same command again"
            ) from error
        if state == "55P03":
            raise StoreBusyError(f"{name} is being written by another process; wait until that has ended") from error
        if state in ("42501", "25006"):
            raise PermissionError(f"{name} cannot be written by this user ({reason}); have the right granted, or use another schema") from error
        if isinstance(error, OperationalError | InterfaceError):
            raise ConnectionError(f"{name} cannot be reached ({reason}); check the URL, and whether the server runs") from error
        raise StoreError(f"{name} could not be read or written ({reason})") from error
    except SQLAlchemyError as error:
        raise StoreError(f"{name} could not be read or written ({error})") from error
