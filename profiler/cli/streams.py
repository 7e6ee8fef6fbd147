"""The three standard streams as the program needs them, whatever the caller made of them."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare() -> None:
    """Put the null device where a stream is closed, lest a file gets its number; let output lack a character rather than fail."""
    for descriptor, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def say(text: str) -> None:
    """Tell the user something that is not the result; a standard error that takes nothing is not an error."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def put(text: str, end: str = "\n") -> None:
    """Write a part of the result to standard output.

    Raises:
        OSError: it takes no more.
    """
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", "standard output") from error


def unread() -> bool:
    """Return whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_output() -> None:
    """Let go what standard output did not take, so that Python does not complain of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
