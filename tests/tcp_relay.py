"""A TCP relay that can be cut: what a pulled cable is to a network connection, at a moment or a byte that a test chooses."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass, field

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends RST
BUFFERED = 1 << 18


@dataclass(eq=False)
class Pair:
    """A client's connection and the one made for it, with what is under way to each."""

    ends: tuple[socket.socket, socket.socket]
    pending: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    ended: bool = False


class TcpRelay:
    """Forwards connections made to `port` of `127.0.0.1` to a target; a context manager."""

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[Pair] = []
        self._lock = threading.Lock()
        self._cut = threading.Event()  # new connections are reset, as if nobody listened
        self._reset_at: int | None = None
        self._forwarded = 0
        self._closed = False
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def __enter__(self) -> TcpRelay:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._thread.join()
        self.reset()
        self._listener.close()

    def reset(self) -> None:
        """Reset every connection on both sides."""
        with self._lock:
            for pair in self._pairs:
                end(pair, RESET_ON_CLOSE)
            self._pairs.clear()

    def reset_after(self, n_bytes: int) -> None:
        """Reset every connection once this many more bytes were forwarded, in whichever direction."""
        with self._lock:
            self._reset_at = self._forwarded + n_bytes

    @property
    def armed(self) -> bool:
        """Whether a reset by bytes is still to come."""
        return self._reset_at is not None

    def disarm(self) -> None:
        """Forget a reset by bytes that has not come."""
        self._reset_at = None

    def cut(self) -> None:
        """Reset every connection, and each new one until `mend`."""
        self._cut.set()
        self.reset()

    def mend(self) -> None:
        """Forward connections again."""
        self._cut.clear()

    def _forward(self) -> None:
        while not self._closed:
            with self._lock:
                pairs = list(self._pairs)
            reading = [pair.ends[i] for pair in pairs for i in (0, 1) if len(pair.pending[1 - i]) < BUFFERED]
            writing = [pair.ends[i] for pair in pairs for i in (0, 1) if pair.pending[i]]
            try:
                readable, writable, _ = select.select([self._listener, *reading], writing, [], 0.05)
            except (OSError, ValueError):  # reset in the meantime
                continue
            with self._lock:
                if self._listener in readable:
                    self._accept()
                for pair in [pair for pair in pairs if pair in self._pairs]:
                    with contextlib.suppress(OSError):
                        self._move(pair, readable, writable)
                        continue
                    pair.ended = True
                for pair in [pair for pair in self._pairs if pair.ended]:
                    end(pair, None)
                    self._pairs.remove(pair)
            if self._reset_at is not None and self._forwarded >= self._reset_at:
                self._reset_at = None
                self.reset()

    def _accept(self) -> None:
        client = self._listener.accept()[0]
        try:
            if self._cut.is_set():
                raise ConnectionRefusedError
            device = socket.create_connection(self.target, timeout=5)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client.close()
            return
        for connection in (client, device):
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the relay shall cost no time
        self._pairs.append(Pair((client, device)))

    def _move(self, pair: Pair, readable: list[socket.socket], writable: list[socket.socket]) -> None:
        for i in (0, 1):
            if pair.ends[i] in readable:
                room = 65536 if self._reset_at is None else max(1, min(65536, self._reset_at - self._forwarded))
                data = pair.ends[i].recv(room)
                pair.ended = pair.ended or not data
                pair.pending[1 - i].extend(data)
                self._forwarded += len(data)
        for i in (0, 1):
            if pair.pending[i] and (pair.ends[i] in writable or pair.ended):
                del pair.pending[i][: pair.ends[i].send(pair.pending[i])]


def end(pair: Pair, linger: bytes | None) -> None:
    """Close both ends, with a reset if `linger` says so."""
    for connection in pair.ends:
        with contextlib.suppress(OSError):
            if linger is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
