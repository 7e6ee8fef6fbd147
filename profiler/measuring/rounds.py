"""The visits themselves: round by round, each in a fresh worker, each visit committed before the next begins.

A visit during which the device was throttled is kept in the store as discarded; the device gets a pause, and the visit is
made again at the end of its round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from device_agents.base import DeviceAgent, DeviceError, Visit, VisitPlan, WorkerFailed
from luts.store import MeasurementStore, Subject
from profiler.measuring.models import LazyModels, ModelMaker
from profiler.measuring.plan import MeasurementPlan, NetworkItem, PlannedVisit, Round

Progress: TypeAlias = Callable[[int, int], None]  # visits that are in the store, visits in all
Sleep: TypeAlias = Callable[[float], None]

THROTTLED = "throttled"
PASSES = 3  # of a round, for visits that were discarded
LONGEST_PAUSE_S = 60.0
THROTTLED_IN_A_ROW = 8  # more is no passing state: with growing pauses these take three minutes


@dataclass(frozen=True)
class CollectSummary:
    """What a session did: visits measured, found in the store already, discarded, and still to make (0 unless the device kept throttling)."""

    measured_visits: int
    skipped_visits: int
    discarded_visits: int
    pending_visits: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every visit of the plan is in the store."""
        return self.pending_visits == 0

    @property
    def nothing_to_do(self) -> bool:
        """Whether every visit was in the store before."""
        return self.complete and self.measured_visits == 0


def declare_subjects(store: MeasurementStore, plan: MeasurementPlan) -> None:
    """Declare a plan's blocks and networks to the store; what is there already stays."""
    subjects = []
    for key, block in plan.blocks.items():
        spec = {name: value for name, value in block.to_dict().items() if name != "name"}  # one key may stand at many places
        subjects.append(Subject(key, "block", "", spec))
    for key, item in plan.networks.items():
        architecture = None if item.architecture is None else item.architecture.to_dict()
        spec = {"name": item.name, "architecture": architecture, "blocks": [block.to_dict() for block in item.blocks]}
        subjects.append(Subject(key, "network", item.role, spec))
    store.add_subjects(subjects)


def models_of(plan: MeasurementPlan, model_maker: ModelMaker) -> LazyModels:
    """Return the model files of a plan, made on demand."""
    makers: dict[str, Callable[[], bytes]] = {key: partial(model_maker, [block]) for key, block in plan.blocks.items()}
    return LazyModels(makers | {key: partial(_network_model, item, model_maker) for key, item in plan.networks.items()})


def _network_model(item: NetworkItem, model_maker: ModelMaker) -> bytes:
    return model_maker(item.blocks) if item.model is None else item.model


def run_plan(agent: DeviceAgent, store: MeasurementStore, plan: MeasurementPlan, models: LazyModels, progress: Progress | None = None,
             sleep: Sleep = time.sleep, clock: Callable[[], float] = time.monotonic) -> CollectSummary:  # fmt: skip
    """Make a plan's missing visits, leave the store self-contained, and return what was done.

    Raises:
        DeviceError: the device or its worker failed; what was measured is kept.
        StoreFullError: the disk is full; what was measured is kept.
    """
    start_s = clock()
    visits = _Visits(agent, store, models, plan, progress, sleep)
    for part in plan.rounds:
        for attempt in range(PASSES):
            pending = visits.pending(part)
            if pending:
                visits.make(part, pending, attempt)
    store.finish()
    left = plan.visit_count - visits.skipped - visits.measured
    return CollectSummary(visits.measured, visits.skipped, visits.discarded, left, clock() - start_s)


def pending_visits(store: MeasurementStore, plan: MeasurementPlan) -> int:
    """Return how many visits of a plan are not in the store."""
    finished = store.finished_plans()
    return sum(visit.id not in finished for part in plan.rounds for visit in part.visits)


class _Visits:
    """Makes visits and stores them; counts on the way."""

    def __init__(self, agent: DeviceAgent, store: MeasurementStore, models: LazyModels, plan: MeasurementPlan, progress: Progress | None,
                 sleep: Sleep) -> None:  # fmt: skip
        self._agent, self._store, self._models, self._sleep = agent, store, models, sleep
        self._finished = store.finished_plans()
        self._total = plan.visit_count
        self._progress = progress
        self._throttled_in_a_row = 0
        self.skipped = self._total - sum(len(self.pending(part)) for part in plan.rounds)
        self.measured = self.discarded = 0
        self._report()

    def pending(self, part: Round) -> list[PlannedVisit]:
        """Return the round's visits that are not in the store, in order."""
        return [visit for visit in part.visits if visit.id not in self._finished]

    def make(self, part: Round, pending: Sequence[PlannedVisit], attempt: int) -> None:
        """Make these visits in one fresh worker."""
        expected = {f"{visit.id}.again{attempt}" if attempt else visit.id: visit for visit in pending}
        plans = [VisitPlan(name, visit.subjects, visit.cycles, visit.warmup_cycles) for name, visit in expected.items()]
        made = self._agent.measure(self._models, plans)
        try:
            for visit in made:
                planned = expected.pop(visit.plan_id, None)
                if planned is None or visit.samples_ns.shape != (len(planned.subjects), planned.cycles):
                    raise WorkerFailed(
                        f"the device's worker answered with visit {visit.plan_id!r} of {visit.samples_ns.shape} samples; nobody asked for that"
                    )
                self._keep(part, planned, visit)
        finally:
            close = getattr(made, "close", None)  # a generator's: ends the worker where this loop was left early
            if close is not None:
                close()
        if expected:
            raise WorkerFailed(
                f"the device's worker ended after {len(pending) - len(expected)} of {len(pending)} visits; run the same command to go on"
            )

    def _keep(self, part: Round, planned: PlannedVisit, visit: Visit) -> None:
        throttled = bool(visit.state_before.throttled or visit.state_after.throttled)
        self._store.add_visit(
            planned.id, planned.mode, part.number, planned.subjects, visit.samples_ns, (visit.state_before.to_dict(), visit.state_after.to_dict()),
            visit.worker, THROTTLED if throttled else None,
        )  # fmt: skip
        if throttled:
            self.discarded += 1
            self._pause()
        else:
            self.measured += 1
            self._finished.add(planned.id)
            self._throttled_in_a_row = 0
            self._report()

    def _pause(self) -> None:
        self._throttled_in_a_row += 1
        if self._throttled_in_a_row > THROTTLED_IN_A_ROW:
            raise DeviceError(
                f"the device was throttled in {self._throttled_in_a_row} visits in a row, with pauses between them; "
                "cool it, or lift the cap of its clock, and run the same command to go on"
            )
        self._sleep(min(LONGEST_PAUSE_S, 2.0 ** (self._throttled_in_a_row - 1)))

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.skipped + self.measured, self._total)
