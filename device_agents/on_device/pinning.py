"""Pinning the worker to cores; what the kernel does not confirm is an error."""

from __future__ import annotations

import os


class PinningRefused(RuntimeError):
    """The kernel did not give the cores asked for."""


def pin(cores: list[int]) -> list[int]:
    """Pin this thread, and threads it will start, to these cores; returns what the kernel confirms. No cores: not pinned.

    Raises:
        PinningRefused: the system cannot pin, or gives other cores.
    """
    if not cores:
        return []
    if not hasattr(os, "sched_setaffinity"):
        raise PinningRefused("this system cannot pin a process to cores; set cores = [] for the device to measure unpinned")
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError) as error:
        raise PinningRefused(f"the kernel refused the cores {cores} ({error}); this process may use {sorted(os.sched_getaffinity(0))}") from error
    confirmed = sorted(os.sched_getaffinity(0))
    if confirmed != sorted(set(cores)):
        raise PinningRefused(f"cores {cores} were asked for, and the kernel gave {confirmed}")
    return confirmed
