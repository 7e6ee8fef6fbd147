"""Visits on a phone: batch after batch, looked at from here while the phone works, each visit given as soon as it is seen.

After a visit on a phone that was too hot the batch is ended, so that a pause here is one there. A batch that died is begun
again at the visit it died in, once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_agents.android import batch, state
from device_agents.android.clusters import listed, mask, parse_list
from device_agents.android.probe import Phone, phone, probe_script
from device_agents.android.runner import Runner, command, not_runnable, samples
from device_agents.android.session import Session
from device_agents.base import DeviceError, DeviceState, Visit, VisitPlan, WorkerFailed

FIRST_BATCH = 8  # visits, whose time says how many the next batches hold
BATCH_S = 15.0  # of a batch: so far the phone may be ahead of this computer
MOST_IN_BATCH = 500
LONGEST_POLL_S, SHORTEST_POLL_S = 1.0, 0.05
START_S = 20.0  # in which a batch must say something
NAME_CHARACTERS = 15  # of a process, as the kernel keeps it


@dataclass(frozen=True)
class Protocol:
    """How visits are made on one phone; `cores` is empty where the runner is not pinned."""

    runner: Runner
    runner_path: str
    machine: str | None
    delegate: str
    full_delegation: bool
    threads: int
    cores: tuple[int, ...]
    flags: tuple[str, ...]
    least_s: float
    warmup_s: float
    timeout_s: float
    limits: state.Limits
    least_battery_percent: int
    root: str = ""


class Visits:
    """Makes plans' visits in a begun session; `incidents` says in words what went wrong on the way and was made good."""

    def __init__(self, session: Session, found: Phone, protocol: Protocol, models: Mapping[str, str], device: str,
                 sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._session, self._phone, self._protocol, self._models, self._device = session, found, protocol, models, device
        self._sleep, self._clock = sleep, clock
        self._visit_s: float | None = None  # of one visit and what lies between two
        self._thermal, self._battery = found.moment.thermal, found.moment.battery
        self._died = False  # the last batch, in the visit it was at
        self.incidents: list[str] = []
        self.in_runner_s = 0.0

    def make(self, plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan.

        Raises:
            DeviceError: the runner failed, the phone refused something, its battery is low, or it cannot be reached any more.
        """
        remaining, died_in = list(plans), ""
        while remaining:
            made = 0
            for visit in self._batch(remaining[: self._size()]):
                made += 1
                yield visit
            if not made and remaining[0].id == died_in:
                raise WorkerFailed(f"the batch of device {self._device!r} died twice in visit {died_in!r}; see what ends processes there")
            died_in = remaining[made].id if made < len(remaining) and self._died else ""
            remaining = remaining[made:]

    def _size(self) -> int:
        return FIRST_BATCH if self._visit_s is None else max(1, min(MOST_IN_BATCH, int(BATCH_S / max(self._visit_s, 1e-3))))

    def _batch(self, plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield the visits of a batch, in order; fewer than planned where it was ended or died."""
        reading, pinned = self._reading(), self._protocol.cores
        tasks = [batch.Task(self._command(plan)) for plan in plans]
        self._died = False
        start_uptime_s, begin_s = self._phone.clock[0], self._clock()
        folder = self._session.start(tasks, reading, mask(pinned) if pinned else None)
        seen, seen_at_s = 0, self._clock()
        while seen < len(plans):  # left by an error, the batch ends with its session
            self._sleep(self._pause_s(len(plans) - seen))
            polled = self._session.poll(folder, seen, reading)
            if polled is None:
                raise DeviceError(f"device {self._device!r} lost its session's folder {folder!r} meanwhile; measure again")
            for finished in polled.finished:
                visit, hot = self._visit_unless_full(plans[seen], finished)
                seen, seen_at_s = seen + 1, self._clock()
                if hot:
                    self._session.stop(folder)
                yield visit
                refuse_low_battery(self._battery, self._protocol.least_battery_percent, self._device)
                if hot:
                    return
            rebooted = polled.uptime_s < start_uptime_s
            silent_s = self._clock() - seen_at_s
            ended = not polled.alive and not polled.finished and seen < len(plans)
            if rebooted or ended or silent_s > self._protocol.timeout_s + START_S:
                self._note_death(plans[seen], rebooted, polled.alive)
                break
            if seen:
                self._visit_s = (seen_at_s - begin_s) / seen
        self._session.stop(folder)

    def _note_death(self, plan: VisitPlan, rebooted: bool, alive: bool) -> None:
        why = "it restarted" if rebooted else "its batch did not go on" if alive else "its batch was ended by something else"
        self.incidents.append(f"device {self._device!r}: {why}, in visit {plan.id!r}")
        self._died = True
        self._session.keep()  # what ended the batch may have ended the keeper too
        if rebooted:
            self._phone = replace(self._phone, clock=phone(self._session.shell(probe_script(self._protocol.root)).text).clock)

    def _pause_s(self, left: int) -> float:
        if self._visit_s is None:
            return 4 * SHORTEST_POLL_S
        return min(LONGEST_POLL_S, max(SHORTEST_POLL_S, left * self._visit_s))

    def _reading(self) -> batch.Reading:
        everywhere = set(self._phone.allowed)
        aside = everywhere - set(self._protocol.cores)
        return batch.Reading(
            cores=self._protocol.cores or tuple(sorted(everywhere)),
            zones=self._phone.zones if self._phone.moment.thermal.processor_c is None else (),
            limit_s=max(1, round(self._protocol.timeout_s)),
            aside_mask=mask(aside) if aside and self._protocol.cores else None,
            root=self._protocol.root,
        )

    def _command(self, plan: VisitPlan) -> tuple[str, ...]:
        p = self._protocol
        return command(p.runner, p.runner_path, self._models[plan.models[0]], plan, threads=p.threads, delegate=p.delegate, least_s=p.least_s,
                       warmup_s=p.warmup_s, flags=p.flags)  # fmt: skip

    # --- one visit -------------------------------------------------------------------------------------------------------

    def _visit_unless_full(self, plan: VisitPlan, finished: batch.Finished) -> tuple[Visit, bool]:
        try:
            return self._visit(plan, finished)
        except WorkerFailed:
            self._session.refuse_full_disk()
            raise

    def _visit(self, plan: VisitPlan, finished: batch.Finished) -> tuple[Visit, bool]:
        """Return the visit, and whether the phone was too hot in it."""
        parts = batch.sections(finished.state)
        before, clock_khz = self._moment(parts, "before"), _clock_khz(finished.watched)
        after = self._moment(parts, "after")
        exit_code, seconds = _ran(parts)
        if exit_code is None:
            raise WorkerFailed(f"device {self._device!r} wrote no end of visit {plan.id!r}; run the same command to go on")
        self._refuse_not_runnable(exit_code, finished)
        self._refuse_other_cores(finished.watched)
        row, repeats = samples(
            self._protocol.runner, plan, exit_code, "late" in finished.watched, finished.stdout, finished.stderr, delegate=self._protocol.delegate,
            full=self._protocol.full_delegation, timeout_s=self._protocol.timeout_s, device=self._device,
        )  # fmt: skip
        self.in_runner_s += seconds
        states = self._state(before, None), self._state(after, clock_khz)
        visit = Visit(plan.id, np.array([row], dtype=np.int64), *states, f"{self._session.transport.serial}-{self._session.token}", repeats)
        return visit, any(made.throttled for made in states)

    def _moment(self, parts: Mapping[str, Sequence[str]], part: str) -> state.Moment:
        """Return the reading, and keep what is read more seldom."""
        thermal, battery = parts.get(f"{part}@thermal"), parts.get(f"{part}@battery")
        moment = state.moment(parts.get(part, ()), self._thermal, self._battery)
        if thermal is not None:
            self._thermal = state.thermal("\n".join(thermal))
        if battery is not None:
            self._battery = state.battery("\n".join(battery))
        return replace(moment, thermal=self._thermal, battery=self._battery)

    def _state(self, moment: state.Moment, clock_khz: int | None) -> DeviceState:
        return moment.state(self._phone.unix_time_ns(moment.uptime_s), self._protocol.limits, clock_khz)

    def _refuse_not_runnable(self, exit_code: int, finished: batch.Finished) -> None:
        said = finished.stderr.strip() or finished.stdout.strip()
        error = not_runnable(self._protocol.runner, self._device, exit_code, said, self._protocol.machine, self._phone.abis)
        if error is not None:
            raise error

    def _refuse_other_cores(self, watched: Sequence[str]) -> None:
        own = self._protocol.runner.name[:NAME_CHARACTERS]
        allowed = [parts[1] for line in watched if (parts := line.split(" ", 2))[0] == "allowed" and len(parts) == 3 and parts[2] == own]
        confirmed = parse_list(allowed[-1]) if allowed else None
        if self._protocol.cores and confirmed is not None and confirmed != self._protocol.cores:
            raise DeviceError(
                f"device {self._device!r} ran the runner on the cores {listed(confirmed)}; expected {listed(self._protocol.cores)}, "
                "so set cores that it lets processes stay on, or cores = [] not to pin"
            )


def refuse_low_battery(battery: state.Battery, least_percent: int, device: str) -> None:
    """Raise DeviceError where a battery has less than it must."""
    if battery.percent is not None and battery.percent < least_percent:
        raise DeviceError(f"the battery of device {device!r} is at {battery.percent} %, below {least_percent} %; charge it, and go on")


def _clock_khz(watched: Sequence[str]) -> int | None:
    """Return the clock of the slowest core in use while the runner ran: the median of what was seen of each."""
    seen: dict[str, list[int]] = {}
    for line in watched:
        parts = line.split()
        if len(parts) == 3 and parts[0] == "cur" and parts[2].isdecimal() and int(parts[2]) > 0:
            seen.setdefault(parts[1], []).append(int(parts[2]))
    return min((int(statistics.median(clocks)) for clocks in seen.values()), default=None)


def _ran(parts: Mapping[str, Sequence[str]]) -> tuple[int | None, float]:
    """Return the runner's exit code, and how long it ran in seconds; None where the phone wrote no such line."""
    words = (parts.get("ran") or [""])[0].split()
    try:
        return int(words[1]), max(0.0, float(words[3]) - float(words[2]))
    except (IndexError, ValueError):
        return None, 0.0
