"""The visits themselves: round by round, each in a fresh worker, each visit committed before the next begins.

A visit that the gate refuses is kept in the store as discarded; the device gets a pause, and the visit is made again at
the end of its round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from device_agents.base import DeviceAgent, DeviceError, Visit, VisitPlan, WorkerFailed
from luts.store import MeasurementStore, StoreError, Subject
from profiler.measuring.collectors import Claims, collectors_of
from profiler.measuring.evidence import Evidence, SeenVisit
from profiler.measuring.gate import Gate
from profiler.measuring.models import LazyModels, ModelMaker, default_model_maker
from profiler.measuring.plan import MeasurementPlan, NetworkItem, PlannedVisit, Round
from profiler.measuring.session import note_session
from profiler.measuring.stopping import holds_everything, next_round, outcomes

Progress: TypeAlias = Callable[[int, int], None]  # visits that are in the store, visits in all as far as known
Sleep: TypeAlias = Callable[[float], None]

PASSES = 3  # of a round, for visits that were discarded
LONGEST_PAUSE_S = 60.0
DISCARDED_IN_A_ROW = 8  # more is no passing state: with growing pauses these take three minutes
POLL_S = 1.0  # between looks at what another collector has made


@dataclass(frozen=True)
class CollectSummary:
    """What a session did: visits measured, found in the store already, discarded, and still to make (0 unless the device kept throttling).

    `stopped_by` is the rule that ended the measurement; empty where it is not at its end.
    """

    measured_visits: int
    skipped_visits: int
    discarded_visits: int
    pending_visits: int
    seconds: float
    stopped_by: str

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
    subjects = [Subject.of_block(block) for block in plan.blocks.values()]
    for key, item in plan.networks.items():
        architecture = None if item.architecture is None else item.architecture.to_dict()
        spec = {"name": item.name, "architecture": architecture, "blocks": [block.to_dict() for block in item.blocks]}
        subjects.append(Subject(key, "network", item.role, spec))
    if {subject.key for subject in subjects} - {subject.key for subject in store.subjects()}:  # a finished file stays as it is
        store.add_subjects(subjects)


def _answers(planned: PlannedVisit, visit: Visit) -> bool:
    """Return whether a visit has a row a subject, of as many samples as it was to have; fewer where each is the total of several runs."""
    rows, samples = visit.samples_ns.shape
    return rows == len(planned.subjects) and (samples == planned.cycles or (samples < planned.cycles and visit.repeats > 1))


def models_of(plan: MeasurementPlan, model_maker: ModelMaker) -> LazyModels:
    """Return the model files of a plan, made on demand."""
    makers: dict[str, Callable[[], bytes]] = {key: partial(model_maker, [block]) for key, block in plan.blocks.items()}
    return LazyModels(makers | {key: partial(_network_model, item, model_maker) for key, item in plan.networks.items()})


def _network_model(item: NetworkItem, model_maker: ModelMaker) -> bytes:
    return model_maker(item.blocks) if item.model is None else item.model


def run_plan(agent: DeviceAgent, store: MeasurementStore, plan: MeasurementPlan, evidence: Evidence, *, model_maker: ModelMaker | None = None,
             progress: Progress | None = None, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.time,
             time_budget_s: float | None = None) -> CollectSummary:  # fmt: skip
    """Make a plan's missing visits, round by round until a rule ends it, note the outcomes, and return what was done.

    `evidence` is what the store holds, and is kept up to date.

    Raises:
        DeviceError: the device or its worker failed; what was measured is kept.
        StoreFullError: the disk is full; what was measured is kept.
    """
    start_s = time.monotonic()
    info = agent.info()
    declare_subjects(store, plan)
    models = models_of(plan, model_maker or default_model_maker(agent.model_format, info.batch, info.precision))
    claims = Claims(store, lambda: note_session(store, info, clock()), clock)
    claims.take_back(collectors_of(store))
    visits = _Visits(agent, store, models, plan, evidence, claims, progress, sleep, time_budget_s)
    try:
        stopped_by = visits.make_all()
    finally:
        claims.release()
    if stopped_by:
        found = outcomes(plan, evidence, stopped_by)
        if not set(found) <= set(store.outcomes()):
            store.set_outcomes(found)
    store.finish()
    return CollectSummary(visits.measured, visits.skipped, visits.discarded, visits.pending_count, time.monotonic() - start_s, stopped_by)


class _Visits:
    """Makes visits and stores them; counts on the way."""

    def __init__(self, agent: DeviceAgent, store: MeasurementStore, models: LazyModels, plan: MeasurementPlan, evidence: Evidence, claims: Claims,
                 progress: Progress | None, sleep: Sleep, time_budget_s: float | None) -> None:  # fmt: skip
        self._agent, self._store, self._models, self._plan, self._claims, self._sleep = agent, store, models, plan, claims, sleep
        self._evidence = evidence
        self._finished = store.finished_plans()
        self._progress = progress
        self._time_budget_s = time_budget_s
        self._gate = Gate(plan.settings.hottest_c)
        self._discarded_in_a_row = 0
        self._others_measured = False
        self._parts: list[Round] = []  # of all rounds so far
        self._given_up: set[Round] = set()  # those with visits that were discarded in every pass
        self.skipped = self.measured = self.discarded = 0

    @property
    def pending_count(self) -> int:
        """Visits of the rounds so far that are not in the store."""
        return sum(len(self._pending(part)) for part in self._parts)

    def make_all(self) -> str:
        """Make round after round; returns the rule that ended them, or nothing where visits are left that the device would not give."""
        number = 0
        fixed: list[Round] = []
        while holds_everything(self._plan, number, self._time_budget_s):
            fixed += next_round(self._plan, self._evidence, number, self._time_budget_s).parts
            number += 1
        self._begin(fixed)
        while self._complete():
            step = next_round(self._plan, self._up_to_date(), number, self._time_budget_s)
            if not step.parts:
                return step.stopped_by
            self._begin(step.parts)
            number += 1
        return ""

    def _begin(self, parts: Sequence[Round]) -> None:
        self._parts += parts
        self.skipped += sum(len(part.visits) - len(self._pending(part)) for part in parts)
        self._report()
        for part in parts:
            self._make_part(part)

    def _make_part(self, part: Round) -> bool:
        """Make what is left of a part and not claimed by others; returns whether there was something to do."""
        for attempt in range(PASSES):
            own = self._own(self._pending(part))
            if not own:
                return attempt > 0
            self._make(part, own, attempt)
        if self._pending(part):
            self._given_up.add(part)
        return True

    def _own(self, pending: list[PlannedVisit]) -> list[PlannedVisit]:
        """Return those visits that nobody else makes or has made."""
        if not pending:
            return []
        own = self._claims.claim(visit.id for visit in pending)
        if len(own) < len(pending):
            made_by_others = self._store.finished_plans() - self._finished
            self._finished |= made_by_others
            self._others_measured |= bool(made_by_others)
            self.skipped += sum(visit.id in made_by_others for visit in pending)
        return [visit for visit in pending if visit.id in own]

    def _complete(self) -> bool:
        """Wait for what other collectors have claimed, or make it once their claims have ended; returns whether all rounds so far are made."""
        while left := [part for part in self._parts if self._pending(part) and part not in self._given_up]:
            if not any([self._make_part(part) for part in left]):
                self._claims.take_back(collectors_of(self._store))
                self._sleep(POLL_S)
        return not self._given_up

    def _up_to_date(self) -> Evidence:
        if self._others_measured:
            self._evidence.read(self._store)
            self._others_measured = False
        return self._evidence

    def _pending(self, part: Round) -> list[PlannedVisit]:
        return [visit for visit in part.visits if visit.id not in self._finished]

    def _make(self, part: Round, pending: Sequence[PlannedVisit], attempt: int) -> None:
        """Make these visits in one fresh worker."""
        expected = {f"{visit.id}.again{attempt}" if attempt else visit.id: visit for visit in pending}
        plans = [VisitPlan(name, visit.subjects, visit.cycles, visit.warmup_cycles, visit.min_call_ns) for name, visit in expected.items()]
        made = self._agent.measure(self._models, plans)
        try:
            for visit in made:
                planned = expected.pop(visit.plan_id, None)
                if planned is None or not _answers(planned, visit):
                    raise WorkerFailed(
                        f"the device's worker answered with visit {visit.plan_id!r} of {visit.samples_ns.shape} samples; nobody asked for that"
                    )
                self._keep(part, planned, visit)
                self._claims.renew(planned.id for planned in expected.values())
        finally:
            close = getattr(made, "close", None)  # a generator's: ends the worker where this loop was left early
            if close is not None:
                close()
        if expected:
            raise WorkerFailed(
                f"the device's worker ended after {len(pending) - len(expected)} of {len(pending)} visits; run the same command to go on"
            )

    def _keep(self, part: Round, planned: PlannedVisit, visit: Visit) -> None:
        states = visit.state_before.to_dict(), visit.state_after.to_dict()
        reason = self._gate.reason_against(*states)
        try:
            self._store.add_visit(
                planned.id, planned.mode, part.number, planned.subjects, visit.samples_ns, states, visit.worker, reason, visit.repeats
            )
        except StoreError:
            if planned.id not in self._store.finished_plans():
                raise
            self._finished.add(planned.id)  # another collector's: this one's lease had ended
            self._others_measured = True
            self.skipped += 1
            return
        self._evidence.add(SeenVisit.of_samples(planned.id, planned.mode, part.number, visit.worker, visit.repeats, reason, states,
                                               planned.subjects, visit.samples_ns))  # fmt: skip
        if reason is not None:
            self.discarded += 1
            self._pause(reason)
        else:
            self.measured += 1
            self._finished.add(planned.id)
            self._discarded_in_a_row = 0
            self._report()

    def _pause(self, reason: str) -> None:
        self._discarded_in_a_row += 1
        if self._discarded_in_a_row > DISCARDED_IN_A_ROW:
            raise DeviceError(
                f"the device was {reason} in {self._discarded_in_a_row} visits in a row, with pauses between them; "
                "cool it, or lift the cap of its clock, and run the same command to go on"
            )
        self._sleep(min(LONGEST_PAUSE_S, 2.0 ** (self._discarded_in_a_row - 1)))

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.skipped + self.measured, sum(len(part.visits) for part in self._parts))
