"""Collecting from several devices side by side: a process each, so that each goes at its own pace and fails alone.

Ctrl-C ends all of them; what they measured is kept, and the same call goes on. A process whose caller is gone ends by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from device_agents.devices import open_device
from profiler.collecting import CollectResult, Report
from profiler.farm_jobs import Job, Outcome, collect_job, sentence

DeviceReport = Callable[[str, int, int, str], None]  # device, done, of how many, note

REPORTED_S = 0.2  # between two reports of a process
ENDED_S = 60.0  # for a process that is asked to end, to put its device back as it was; then it is killed


# --- the caller's side ----------------------------------------------------------------------------------------------------


def collect_side_by_side(jobs: Sequence[Job], report: DeviceReport) -> list[Outcome]:
    """Measure all devices at one time, and return what became of each; one that fails does not stop the others.

    Several jobs of one device are collectors that share its work: it is measured once one of them finds nothing left to do.
    """
    crew: dict[Connection, tuple[Job, BaseProcess]] = {}
    results: list[tuple[Job, CollectResult | str]] = []
    try:
        for job in jobs:
            connection, process = _start(job)
            crew[connection] = job, process
        shown: dict[str, int] = {}
        while crew:
            for ready in wait(list(crew)):
                connection = ready  # type: ignore[assignment]
                job, process = crew[connection]
                message = _receive(connection, process)
                if isinstance(message, tuple):
                    done, total, note = message
                    shown[job.device.name] = max(done, shown.get(job.device.name, 0))
                    report(job.device.name, shown[job.device.name], total, note)
                else:
                    results.append((job, message))
                    crew.pop(connection)
                    process.join()
                    connection.close()
    finally:
        _end(crew)
    return [_outcome(name, [found for job, found in results if job.device.name == name]) for name in dict.fromkeys(job.device.name for job in jobs)]


def _start(job: Job) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), name=f"collect-{job.device.name}")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the caller: the process begins without it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    theirs.close()  # so that talking to a process that has ended fails
    with suppress(BrokenPipeError, ConnectionResetError):  # reading from it will tell
        ours.send(job)
    return ours, process


def _receive(connection: Connection, process: BaseProcess) -> tuple[int, int, str] | CollectResult | str:
    try:
        message: tuple[int, int, str] | CollectResult | str = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        return f"its process ended with exit code {process.exitcode}; what was measured is kept, run the same command to go on"
    return message


def _end(crew: Mapping[Connection, tuple[Job, BaseProcess]]) -> None:
    """Ask all to end, and see to it."""
    for _, process in crew.values():
        process.terminate()
    end_s = time.monotonic() + ENDED_S
    for connection, (_, process) in crew.items():
        while process.is_alive() and time.monotonic() < end_s:
            with suppress(EOFError, OSError):  # a process that reports still must not wait for a reader
                if connection.poll(0.1):
                    connection.recv()
                    continue
            process.join(0.1)
        process.kill()
        process.join()
        connection.close()


def _outcome(device: str, found: Sequence[CollectResult | str]) -> Outcome:
    failures = [each for each in found if isinstance(each, str)]
    finished = [each for each in found if isinstance(each, CollectResult)]
    complete = [each for each in finished if each.summary.complete]
    if complete:
        measured = sum(each.summary.measured_visits for each in finished)
        last = complete[-1]
        visits = last.summary.measured_visits + last.summary.skipped_visits
        discarded = sum(each.summary.discarded_visits for each in finished)
        seconds = max(each.summary.seconds for each in finished)
        shared = replace(last.summary, measured_visits=measured, skipped_visits=visits - measured, discarded_visits=discarded, seconds=seconds)
        return Outcome(device, replace(last, summary=shared), None, tuple(failures))
    if failures:
        return Outcome(device, None, failures[0], tuple(failures[1:]))
    left = f"{finished[-1].summary.pending_visits} visits are still to make, as the device kept throttling; cool it and run the same command again"
    return Outcome(device, finished[-1], left)


# --- the side of a collector ----------------------------------------------------------------------------------------------


def _work(connection: Connection) -> None:
    """Do a job: send reports on the way, and in the end the result, or a sentence of what failed."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_caller, daemon=True).start()
    last_s = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last_s
        if stop.is_set():  # something on the way swallowed the interrupt
            raise KeyboardInterrupt
        if time.monotonic() - last_s >= REPORTED_S or done == total:
            last_s = time.monotonic()
            connection.send((done, total, note))

    try:
        answer: CollectResult | str = _done(connection.recv(), report)
    except KeyboardInterrupt:
        answer = "stopped; what was measured is kept, run the same command to go on"
    except Exception as error:
        answer = "stopped" if stop.is_set() else sentence(error)
    with suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        connection.send(answer)


def _done(job: Job, report: Report) -> CollectResult:
    if job.cluster is not None:
        from profiler.farm_ray import collect_on_cluster

        return collect_on_cluster(job, report)
    with open_device(job.device) as agent:
        return collect_job(job, agent, report)


def _end_with_caller() -> None:
    caller = multiprocessing.parent_process()
    if caller is not None:
        wait([caller.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
