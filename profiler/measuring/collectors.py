"""Several collectors at one store: each claims visits before it makes them, so that none is made twice.

A claim is a lease, renewed as visits are made. One that a killed collector of this machine left is taken back at once;
one of another machine ends with its lease.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from luts.store import MeasurementStore

LEASE_S = 600.0  # longer than it takes to load a worker's models and make its first visits
RENEWED_S = LEASE_S / 4


def own_name() -> str:
    """Return a name that no other process has, now or later: host, process id, and when that began."""
    return f"{platform.node()}/{os.getpid()}/{_began(os.getpid())}"


def is_dead(name: str) -> bool:
    """Return whether a collector of this machine has ended; of others nobody can tell."""
    host, process, began = name.split("/")
    return host == platform.node() and _began(int(process)) != began


def collectors_of(store: MeasurementStore) -> set[str]:
    """Return the names of all collectors that measured into a store."""
    return {session["collector"] for session in store.provenance().get("sessions", []) if "collector" in session}


class Claims:
    """What this collector has claimed at a store; `begin` is called before the first claim."""

    def __init__(self, store: MeasurementStore, begin: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._store, self._begin, self._clock = store, begin, clock
        self._name = own_name()
        self._renewed_s: float | None = None  # None: nothing was claimed yet

    def take_back(self, collectors: Iterable[str]) -> None:
        """Give free what those of these collectors claimed that are dead."""
        for name in sorted(set(collectors) - {self._name}):
            if is_dead(name):
                self._store.release(name)

    def claim(self, plan_ids: Iterable[str]) -> set[str]:
        """Return those of these visits that are this collector's to make now."""
        if self._renewed_s is None:
            self._begin()
        self._renewed_s = time.monotonic()
        return self._store.claim(list(plan_ids), self._name, self._clock(), LEASE_S)

    def renew(self, plan_ids: Iterable[str]) -> None:
        """Keep these, where their lease is not fresh any more."""
        if self._renewed_s is not None and time.monotonic() - self._renewed_s > RENEWED_S:
            self.claim(plan_ids)

    def release(self) -> None:
        """Give back all."""
        if self._renewed_s is not None:
            with contextlib.suppress(OSError):  # a full disk, say: they end with the lease, or with this process
                self._store.release(self._name)


def _began(process: int) -> str:
    """Return when a process of this machine began, in the kernel's ticks; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
