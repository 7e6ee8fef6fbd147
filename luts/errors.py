"""What can go wrong with a store, each told in one sentence that names it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(ValueError):
    """A store that is not what it should be: another kind, a newer schema, another condition, damaged, or contradicting what is given."""


class StoreFullError(OSError):
    """The disk is full; everything committed before is kept."""


class StoreBusyError(TimeoutError):
    """Another process is writing the store, and did not end within the busy timeout."""


# What decoding stored text, numbers or samples raises where a byte of them is wrong.
_SIGNS_OF_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, zlib.error)


def damaged(name: str, reason: object) -> StoreError:
    """Return the error that a store is damaged."""
    return StoreError(f"{name} is damaged ({reason}); take a copy of it that is whole, or measure again")


@contextmanager
def damage_told(name: str) -> Iterator[None]:
    """Run what decodes the content of a store; content that cannot be decoded is a StoreError naming the store.

    Raises:
        StoreError: the content is damaged.
    """
    try:
        yield
    except StoreError:
        raise
    except _SIGNS_OF_DAMAGE as error:
        raise damaged(name, f"{type(error).__name__}: {error}") from error
