"""When to stop, and what to visit until then: what a round holds follows from the plan and the visits of earlier rounds alone.

Everything takes part in the first rounds. Later ones hold what is not known to TARGET yet, the least certain first, as
far as the time left allows, and never so little that the drift of their workers could not be told. So a measurement that
was killed goes on exactly, and a repeated one finds nothing to do.
A time budget takes the place of the plan's own limits, and rules from the second round on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luts.drift import FEWEST_SUBJECTS
from luts.records import Outcome
from profiler.measuring.evidence import Evidence, SubjectId
from profiler.measuring.plan import ALONE, CHAIN, NETWORK, MeasurementPlan, Repeated, Round

TARGET, ACCEPTED = 0.01, 0.02  # half-widths of the relative 95 % interval: what is aimed at, and what will do
BY_TARGET, BY_ACCEPTED, BY_ROUNDS, BY_TIME_CAP, BY_TIME_BUDGET = "target", "accepted", "rounds", "time cap", "time budget"  # what ended a subject
MOST_ROUNDS_EVER = 200  # a device whose clock stands still spends no time


@dataclass(frozen=True)
class NextRound:
    """The parts of a round; where there are none, the rule that ended the measurement."""

    parts: tuple[Round, ...]
    stopped_by: str = ""


def holds_everything(plan: MeasurementPlan, number: int, time_budget_s: float | None) -> bool:
    """Return whether all of a plan takes part in the round of this number, whatever was measured before."""
    return number < (plan.settings.rounds if time_budget_s is None else 1)


def next_round(plan: MeasurementPlan, evidence: Evidence, number: int, time_budget_s: float | None = None) -> NextRound:
    """Return the round of this number, from the visits of earlier rounds."""
    if holds_everything(plan, number, time_budget_s):
        return NextRound(plan.round_of(number, plan.repeated))
    wanting = _wanting(plan, evidence, number)
    if not wanting:
        return NextRound((), BY_TARGET)
    if number >= (max(plan.settings.rounds, plan.settings.most_rounds) if time_budget_s is None else MOST_ROUNDS_EVER):
        return NextRound((), BY_ROUNDS)
    limit_s = _time_cap_s(plan, evidence) if time_budget_s is None else time_budget_s
    affordable = _judgeable(plan, _affordable(wanting, evidence, number, limit_s - evidence.seconds(number)))
    if not affordable:
        return NextRound((), BY_TIME_CAP if time_budget_s is None else BY_TIME_BUDGET)
    return NextRound(plan.round_of(number, [repeated for repeated in plan.repeated if repeated in affordable]))


def _time_cap_s(plan: MeasurementPlan, evidence: Evidence) -> float:
    settings = plan.settings
    return min(settings.time_cap_s, (1 + settings.further_time_percent / 100) * evidence.seconds(settings.rounds))


def outcomes(plan: MeasurementPlan, evidence: Evidence, stopped_by: str) -> list[Outcome]:
    """Return how well each subject of a plan is known, and the rule that ended it where the measurement ended by `stopped_by`."""
    subjects = dict.fromkeys((repeated.mode, key) for repeated in plan.repeated if repeated.visits for key in repeated.subjects)
    found = []
    for subject in subjects:
        interval = evidence.interval(subject)
        by = BY_TARGET if interval <= TARGET else BY_ACCEPTED if interval <= ACCEPTED else stopped_by
        found.append(Outcome(subject[1], subject[0], by, interval if math.isfinite(interval) else None, len(evidence.visits_of(subject))))
    return found


def _wanting(plan: MeasurementPlan, evidence: Evidence, number: int) -> list[Repeated]:
    """Return what needs further visits, the least certain first, and last what is visited with it so that its workers can be judged."""
    owed = _owed(plan, evidence, number)
    needs = {r: evidence.interval((r.mode, r.subjects[0]), number) for r in plan.repeated if r.mode in (ALONE, NETWORK)}
    needs |= _chain_needs(plan, evidence, number)
    by_need = sorted((r for r in plan.repeated if r.visits), key=lambda repeated: -needs.get(repeated, 0.0))
    wanting = [repeated for repeated in by_need if repeated in owed or needs.get(repeated, 0.0) > TARGET]
    return [*wanting, *(repeated for mode in {r.mode: None for r in wanting} for repeated in _beside(by_need, wanting, mode))]


def _beside(by_need: Sequence[Repeated], wanting: Sequence[Repeated], mode: str) -> list[Repeated]:
    """Return the fewest others of a mode with which as many subjects are visited as the drift of a worker takes; none where there are too few."""
    subjects = {key for repeated in wanting if repeated.mode == mode for key in repeated.subjects}
    others: list[Repeated] = []
    for repeated in (r for r in by_need if r.mode == mode and r not in wanting):
        if len(subjects) >= FEWEST_SUBJECTS:
            break
        others.append(repeated)
        subjects.update(repeated.subjects)
    return others if len(subjects) >= FEWEST_SUBJECTS else []


def _judgeable(plan: MeasurementPlan, chosen: set[Repeated]) -> set[Repeated]:
    """Return what is left of these without modes whose drift could be told with all of the plan, but not with these alone."""

    def subjects(of: Iterable[Repeated], mode: str) -> int:
        return len({key for repeated in of if repeated.mode == mode for key in repeated.subjects})

    enough = [mode for mode in (ALONE, CHAIN, NETWORK) if subjects(chosen, mode) >= min(FEWEST_SUBJECTS, subjects(plan.repeated, mode))]
    return {repeated for repeated in chosen if repeated.mode in enough or subjects(plan.repeated, repeated.mode) < FEWEST_SUBJECTS}


def _owed(plan: MeasurementPlan, evidence: Evidence, number: int) -> set[Repeated]:
    """Return what took part in fewer rounds than everything has to: under a time budget, rounds are not complete."""
    rounds: dict[tuple[str, tuple[str, ...]], set[int]] = {}
    for visit in evidence.visits:
        if visit.round < number and visit.discarded is None:
            rounds.setdefault((visit.mode, visit.subjects), set()).add(visit.round)
    return {repeated for repeated in plan.repeated if len(rounds.get((repeated.mode, repeated.subjects), ())) < plan.settings.rounds}


def _chain_needs(plan: MeasurementPlan, evidence: Evidence, number: int) -> dict[Repeated, float]:
    """Return chains that together hold every block not known well enough in chains, each with the largest interval it is there for."""
    chains = [repeated for repeated in plan.repeated if repeated.mode == CHAIN]
    intervals = {key: evidence.interval((CHAIN, key), number) for key in dict.fromkeys(key for chain in chains for key in chain.subjects)}
    left = {key: interval for key, interval in intervals.items() if interval > TARGET}
    found: dict[Repeated, float] = {}
    while left:
        best = max(chains, key=lambda chain: sum(key in left for key in set(chain.subjects)))
        found[best] = max(left.pop(key) for key in set(best.subjects) if key in left)
    return found


def _affordable(wanting: list[Repeated], evidence: Evidence, number: int, left_s: float) -> set[Repeated]:
    """Return the first of these that the time left is enough for, going by what earlier visits took."""
    taken: dict[SubjectId, list[float]] = {}
    for visit in evidence.visits:
        if visit.round < number:
            taken.setdefault((visit.mode, " ".join(visit.subjects)), []).append(visit.seconds)
    in_visits_s = sum(sum(seconds) for seconds in taken.values())
    with_the_rest = evidence.seconds(number) / in_visits_s if in_visits_s else 1.0  # workers' starts, loading of models
    found: set[Repeated] = set()
    for repeated in wanting:
        seconds = taken.get((repeated.mode, " ".join(repeated.subjects)), [0.0])
        left_s -= with_the_rest * repeated.visits * sum(seconds) / len(seconds)
        if left_s <= 0:
            break
        found.add(repeated)
    return found
