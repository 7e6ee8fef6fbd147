"""What a store asks of the database that its tables are in, be it a file or a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection

from luts.errors import StoreError
from luts.interrupts import held_back


class Database(ABC):
    """The tables of one store, made where there are none; every error of the database leaves as one sentence that names it."""

    def __init__(self, name: str, read_only: bool) -> None:
        self.name, self.read_only = name, read_only

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Return a transaction that sees one state of the store."""

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Return a transaction, the only one that writes at its time; committed at the end, or rolled back on any error.

        Ctrl-C and a request to terminate have their effect after it: no library on the way is stopped half-way.

        Raises:
            StoreError: the store was opened for reading.
            StoreFullError: the disk is full.
            StoreBusyError: another process is writing.
        """
        if self.read_only:
            raise StoreError(f"{self.name} is opened for reading only; open it for writing to add to it")
        with held_back(), self._writing() as connection:
            yield connection

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def finish(self) -> None:
        """Bring everything committed to where it stays."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; what is committed stays."""
