"""What a round holds and what ends a measurement: further rounds of what is not known, budgets, and that both go on exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scripted_agent import Interrupted, ScriptedAgent, keys_of_blocks

from luts.drift import FEWEST_SUBJECTS
from luts.store import MeasurementStore
from profiler.measuring.collect import collect
from profiler.measuring.evidence import Evidence, SeenVisit
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from profiler.measuring.stopping import ACCEPTED, BY_ROUNDS, BY_TARGET, BY_TIME_BUDGET, BY_TIME_CAP, TARGET, next_round, outcomes
from supernets.spaces import space

SPACE = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20,), "kernel_size": (3,)})
SETTINGS = ProtocolSettings(rounds=2, most_rounds=6, alone_visits=2, chain_visits=2, network_visits=2, calibration_networks=1, held_out_networks=1,
                            further_time_percent=1000, min_call_us=0)  # fmt: skip
PLAN = make_plan(SPACE, SETTINGS)
SECOND_NS = 10**9


class Clocked(ScriptedAgent):
    """Takes two seconds a visit by its own clock, and is unsteady for some subjects: those whose key has this letter sum."""

    def __init__(self, unsteady_share: float = 0.3, before_visit=None) -> None:
        super().__init__(before_visit)
        self.unsteady_share, self.now_ns = unsteady_share, 1_700_000_000 * SECOND_NS

    def unsteady(self, key: str) -> bool:
        return sum(map(ord, key)) % 100 < 100 * self.unsteady_share

    def measure(self, models, plans):
        for visit in super().measure(models, plans):
            before = replace(visit.state_before, unix_time_ns=self.now_ns)
            self.now_ns += 2 * SECOND_NS
            keys = next(plan.models for plan in plans if plan.id == visit.plan_id)
            rng = np.random.default_rng(sum(map(ord, visit.plan_id)))
            factors = np.array([[1 + 0.3 * rng.random() if self.unsteady(key) else 1.0] for key in keys])
            yield replace(visit, samples_ns=(visit.samples_ns * factors).astype(np.int64), state_before=before,
                          state_after=replace(visit.state_after, unix_time_ns=self.now_ns))  # fmt: skip


def collected(path, agent, settings=SETTINGS, **options):
    with MeasurementStore(path) as store:
        summary = collect(SPACE, agent, store, make_plan(SPACE, settings), model_maker=keys_of_blocks, sleep=lambda _: None, **options)
        return summary, store.outcomes()


def rounds_of(path) -> dict[int, set[tuple[str, tuple[str, ...]]]]:
    with MeasurementStore(path, read_only=True) as store:
        found: dict[int, set[tuple[str, tuple[str, ...]]]] = {}
        for visit in Evidence.of_store(store).visits:
            found.setdefault(visit.round, set()).add((visit.mode, visit.subjects))
        return found


def test_further_rounds_hold_only_what_is_not_known_and_the_rule_that_ended_each_is_kept(tmp_path):
    agent = Clocked()
    summary, ended = collected(tmp_path / "a.lut", agent)
    rounds = rounds_of(tmp_path / "a.lut")
    assert sorted(rounds) == list(range(6)) and summary.stopped_by == BY_ROUNDS
    assert rounds[1] == rounds[0] > rounds[2]
    unsteady, steady = (
        {subjects for mode, subjects in rounds[3] if mode == "alone" and agent.unsteady(subjects[0]) == known} for known in (True, False)
    )
    assert unsteady and len(steady) <= max(0, FEWEST_SUBJECTS - len(unsteady))  # so that the workers' drift can be told
    rules = {outcome.key: outcome for outcome in ended if outcome.mode == "alone"}
    assert set(rules) == set(PLAN.blocks)
    for outcome in rules.values():
        assert outcome.stopped_by == (
            BY_ROUNDS if outcome.relative_interval > ACCEPTED else "accepted" if outcome.relative_interval > TARGET else BY_TARGET
        )
        assert outcome.visits >= 4 and (outcome.visits == 12) >= (outcome.stopped_by == BY_ROUNDS)
    assert {rules[key].stopped_by for key in rules if not agent.unsteady(key)} == {BY_TARGET}


def test_a_measurement_ends_as_soon_as_all_is_known(tmp_path):
    summary, ended = collected(tmp_path / "a.lut", Clocked(unsteady_share=0.0))
    assert summary.stopped_by == BY_TARGET
    assert {outcome.stopped_by for outcome in ended} == {BY_TARGET}
    assert sorted(rounds_of(tmp_path / "a.lut")) == [0, 1]


def test_the_time_cap_ends_further_rounds_but_not_the_first_ones(tmp_path):
    summary, ended = collected(tmp_path / "a.lut", Clocked(), replace(SETTINGS, time_cap_s=1))
    assert summary.stopped_by == BY_TIME_CAP and summary.complete
    assert sorted(rounds_of(tmp_path / "a.lut")) == [0, 1]
    assert BY_TIME_CAP in {outcome.stopped_by for outcome in ended}


def test_further_rounds_take_no_more_than_a_share_of_the_first_ones_time(tmp_path):
    summary, _ = collected(tmp_path / "a.lut", Clocked(), replace(SETTINGS, further_time_percent=10))
    assert summary.stopped_by == BY_TIME_CAP
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        evidence = Evidence.of_store(store)
        assert 1.0 < evidence.seconds() / evidence.seconds(SETTINGS.rounds) < 1.2


def spent_s(path) -> float:
    with MeasurementStore(path, read_only=True) as store:
        return Evidence.of_store(store).seconds()


def test_a_time_budget_is_spent_where_the_interval_is_largest_and_counts_over_all_sessions(tmp_path):
    path, first = tmp_path / "a.lut", PLAN.round_of(0, PLAN.repeated)
    base_s = 2.0 * sum(len(part.visits) for part in first)
    budget_s = base_s + 60
    summary, _ = collected(path, Clocked(), time_budget_s=budget_s)
    assert summary.stopped_by == BY_TIME_BUDGET and summary.complete
    assert base_s < spent_s(path) < budget_s + 20
    assert {mode for mode, _ in rounds_of(path)[1]} >= {"anchor"} and rounds_of(path)[1] < rounds_of(path)[0]
    again, _ = collected(path, Clocked(), time_budget_s=budget_s)
    assert again.nothing_to_do and again.stopped_by == BY_TIME_BUDGET
    smaller, _ = collected(path, Clocked(), time_budget_s=base_s)
    assert smaller.nothing_to_do
    more, _ = collected(path, Clocked(), time_budget_s=2 * budget_s)
    assert more.measured_visits > 0 and more.skipped_visits > 0
    assert budget_s < spent_s(path) < 2 * budget_s + 20


def test_under_a_budget_the_widest_intervals_come_first():
    evidence = Evidence()
    keys, rng = list(PLAN.blocks), np.random.default_rng(0)
    for number, key in enumerate(keys):
        for visit in range(6):
            runs = 1e6 * (1 + (0.002 + 0.01 * number) * rng.random()) * np.ones((1, 4))
            moment_ns = SECOND_NS * len(evidence.visits)
            states = {"unix_time_ns": moment_ns}, {"unix_time_ns": moment_ns + SECOND_NS}
            evidence.add(SeenVisit.of_samples(f"{key}{visit}", "alone", 0, "w", 1, None, states, [key], runs))
    plan = replace(PLAN, repeated=tuple(repeated for repeated in PLAN.repeated if repeated.mode == "alone"))
    step = next_round(plan, evidence, 1, time_budget_s=evidence.seconds() + 42)
    chosen = {visit.subjects[0] for part in step.parts for visit in part.visits if visit.mode == "alone"}
    intervals = {key: evidence.interval(("alone", key)) for key in keys}
    assert min(intervals[key] for key in chosen) >= max(intervals[key] for key in keys if key not in chosen)
    assert 16 <= len(chosen) <= 22


def test_no_round_holds_so_little_that_the_drift_of_its_workers_could_not_be_told():
    evidence = Evidence()
    for key in PLAN.blocks:
        for visit in range(4):
            runs = 1e6 * (1 + 0.1 * (visit + 1) * (key == next(iter(PLAN.blocks)))) * np.ones((1, 4))
            states = {"unix_time_ns": SECOND_NS * visit}, {"unix_time_ns": SECOND_NS * (visit + 1)}
            evidence.add(SeenVisit.of_samples(f"{key}{visit}", "alone", visit // 2, f"w{visit // 2}", 1, None, states, [key], runs))
    plan = replace(PLAN, repeated=tuple(repeated for repeated in PLAN.repeated if repeated.mode == "alone"))
    (part,) = next_round(plan, evidence, 2).parts
    chosen = Counter(visit.subjects[0] for visit in part.visits if visit.mode == "alone")
    assert len(chosen) == FEWEST_SUBJECTS and next(iter(PLAN.blocks)) in chosen
    left_s = evidence.seconds() + 10  # enough for the one in doubt, but not for those beside it
    assert next_round(plan, evidence, 2, time_budget_s=left_s).stopped_by == BY_TIME_BUDGET


@pytest.mark.parametrize("budget", [None, 400.0])
def test_killed_anywhere_further_rounds_go_on_exactly(tmp_path, budget):
    whole, killed = tmp_path / "whole.lut", tmp_path / "killed.lut"
    collected(whole, Clocked(), time_budget_s=budget)

    def interrupt(number, plan):
        if number == 23:
            raise Interrupted

    sessions, clock_ns = 0, 1_700_000_000 * SECOND_NS
    while True:
        sessions += 1
        agent = Clocked(before_visit=interrupt)
        agent.now_ns = clock_ns
        try:
            collected(killed, agent, time_budget_s=budget)
            break
        except Interrupted:
            clock_ns = agent.now_ns
    assert sessions > 3
    with MeasurementStore(killed, read_only=True) as store:
        evidence = Evidence.of_store(store)
    made = Counter(visit.plan_id for visit in evidence.visits)
    assert set(made.values()) == {1}
    last = max(visit.round for visit in evidence.visits)
    assert last > 1
    for number in range(last + 1):  # what each round holds follows from the rounds before it, wherever it was killed
        planned = {visit.id for part in next_round(PLAN, evidence, number, budget).parts for visit in part.visits}
        assert planned == {visit.plan_id for visit in evidence.visits if visit.round == number}
    assert not next_round(PLAN, evidence, last + 1, budget).parts
    with MeasurementStore(whole, read_only=True) as store:
        first = {visit.plan_id for visit in Evidence.of_store(store).visits if visit.round == 0}
    assert first == {visit.plan_id for visit in evidence.visits if visit.round == 0}


def test_time_is_spent_from_visit_to_visit_and_breaks_and_clocks_set_back_are_not():
    evidence = Evidence()
    for number, (began_s, ended_s) in enumerate([(10, 11), (12, 13), (10_000, 10_002), (5, 6), (7, 8)]):
        states = {"unix_time_ns": began_s * SECOND_NS}, {"unix_time_ns": ended_s * SECOND_NS}
        evidence.add(SeenVisit.of_samples(str(number), "alone", 0, "w", 1, None, states, ["a"], np.ones((1, 1))))
    assert evidence.seconds() == pytest.approx(1 + 2 + 2 + 1 + 2)


def test_subjects_never_visited_have_no_interval():
    found = outcomes(PLAN, Evidence(), BY_TIME_CAP)
    assert {(outcome.relative_interval, outcome.visits, outcome.stopped_by) for outcome in found} == {(None, 0, BY_TIME_CAP)}
