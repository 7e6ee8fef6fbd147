"""What a format is, and what a file in a format holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from luts.condition import Condition
from luts.table import Entry, LatencyTable, NetworkMeasurement

MOST_ROWS = 1_000_000  # hundreds of times the largest space's blocks: more is no latency table


class TableFileError(ValueError):
    """Content that is no latency table of its format."""


@dataclass(frozen=True)
class TableContent:
    """What a file holds of a table; None where the format has no place for it."""

    entries: tuple[Entry, ...]
    condition: Condition | None = None
    mode: str | None = None
    space: str | None = None
    networks: tuple[NetworkMeasurement, ...] = ()

    def __post_init__(self) -> None:
        if not self.entries:
            raise TableFileError("there is no block in it; expected at least one")
        keys = [entry.block.key for entry in self.entries]
        if len(set(keys)) < len(keys):
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise TableFileError(f"block {twice} is in it twice; expected each block once")


@dataclass(frozen=True)
class TableFormat(ABC):
    """A kind of file; its fields are its options."""

    suffix: ClassVar[str]
    file_a_resolution: ClassVar[bool] = False  # a table is a folder of files, each with the blocks of one resolution

    def holds(self, entry: Entry) -> bool:
        """Return whether the format has a place for the entry's block."""
        return True

    @abstractmethod
    def not_held(self, table: LatencyTable) -> list[str]:
        """Return what of the table the format cannot hold, a sentence each."""

    @abstractmethod
    def encode(self, table: LatencyTable) -> bytes:
        """Return the table's file.

        Raises:
            ValueError: the format cannot hold anything of it.
        """

    @abstractmethod
    def decode(self, content: bytes) -> TableContent:
        """Return what a file holds.

        Raises:
            TableFileError: it is no file of this format.
        """


def decoded_text(content: bytes) -> str:
    """Return UTF-8 text, with or without a byte order mark.

    Raises:
        TableFileError: it is something else.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableFileError(f"byte {error.start} is no UTF-8 text; expected a text file in UTF-8") from None
