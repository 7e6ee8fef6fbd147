"""Ctrl-C and a request to terminate, held back while something must not stop half-way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # restored in this order: the likelier one last, as it may come in between


@contextmanager
def held_back() -> Iterator[None]:
    """Let the signals that come inside have their effect at the end; only the main thread gets any, in others nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: came.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for which, frame in came:
            handler = handlers[signal.Signals(which)]
            if callable(handler):
                handler(which, frame)
            elif handler == signal.SIG_DFL:
                signal.raise_signal(which)
