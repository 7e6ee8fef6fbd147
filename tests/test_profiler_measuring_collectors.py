"""Several collectors at one store, collectors that are killed, and clocks that are set back: nothing is lost, nothing is made twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_agent import ScriptedAgent, keys_of_blocks

from luts.store import MeasurementStore
from profiler.caution import Caution
from profiler.measuring.collect import collect
from profiler.measuring.collectors import LEASE_S, Claims, is_dead, own_name
from profiler.measuring.evidence import Evidence
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from profiler.trust import trust_checks
from supernets.spaces import space

SPACE = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)})
SETTINGS = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=2, chain_visits=2, network_visits=2, anchor_every=5)
KILLS = 100


def collected(path: Path, agent: ScriptedAgent, **options):
    with MeasurementStore(path) as store:
        return collect(SPACE, agent, store, make_plan(SPACE, SETTINGS), model_maker=keys_of_blocks, **options)


def visits_in(path: Path) -> list[tuple[str, tuple[str, ...], bytes]]:
    with MeasurementStore(path, read_only=True) as store:
        return sorted((v.plan_id, v.subjects, b"".join(runs.tobytes() for runs in v.runs_ns.values())) for v in Evidence.of_store(store).visits)


def test_a_process_knows_its_own_name_and_whether_another_has_ended():
    host, process, began = own_name().split("/")
    assert process == str(os.getpid()) and own_name() == own_name()
    assert not is_dead(own_name())
    assert is_dead(f"{host}/{process}/{int(began) + 1}"), "the id was given to another process"
    assert is_dead(f"{host}/999999999/5")
    assert not is_dead("another host/999999999/5")


def test_what_another_collector_claims_is_left_to_it_and_made_once_its_lease_has_ended(tmp_path):
    plan = make_plan(SPACE, SETTINGS)
    others = [visit.id for part in plan.rounds for visit in part.visits][3:9]
    now_s = [1_700_000_000.0]
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now_s[0] += LEASE_S / 2

    agent = ScriptedAgent()
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.claim(others, "elsewhere/1/1", now_s[0], LEASE_S)
        summary = collect(SPACE, agent, store, plan, model_maker=keys_of_blocks, sleep=sleep, clock=lambda: now_s[0])
    assert summary.complete and summary.measured_visits == plan.visit_count
    assert 1 <= len(pauses) <= 3
    made = [name for worker in agent.workers for name in worker]
    assert sorted(made[-len(others) :]) == sorted(others), "last, in a worker of their own"


def test_a_killed_collector_of_this_machine_gives_way_at_once(tmp_path):
    plan = make_plan(SPACE, SETTINGS)
    dead = f"{own_name().split('/')[0]}/999999999/5"
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.set_provenance({"sessions": [{"collector": dead, "device": {}}]})
        store.claim([visit.id for part in plan.rounds for visit in part.visits], dead, time.time(), LEASE_S)
        summary = collect(SPACE, ScriptedAgent(), store, plan, model_maker=keys_of_blocks, sleep=lambda _: pytest.fail("nothing to wait for"))
    assert summary.complete


def test_claims_are_renewed_only_when_they_are_not_fresh(tmp_path, monkeypatch):
    with MeasurementStore(tmp_path / "a.lut") as store:
        begun = []
        claims = Claims(store, lambda: begun.append(1), clock=lambda: 100.0)
        claims.renew(["v"])
        assert claims.claim(["v"]) == {"v"} and begun == [1]
        assert store.claim(["v"], "elsewhere/1/1", 100.0, LEASE_S) == set()
        claims.release()
        assert store.claim(["v"], "elsewhere/1/1", 100.0, LEASE_S) == {"v"}


COLLECTOR = """
import sys, time
from pathlib import Path
from scripted_agent import ScriptedAgent
from test_profiler_measuring_collectors import collected
pause_s = float(sys.argv[2])
print("ready", flush=True)
collected(Path(sys.argv[1]), ScriptedAgent(lambda number, plan: time.sleep(pause_s)))
"""


def start_collector(path: Path, pause_s: float) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    return subprocess.Popen([sys.executable, "-c", COLLECTOR, str(path), str(pause_s)], env=environment, stdout=subprocess.PIPE, text=True)


def test_what_a_collector_claimed_that_died_meanwhile_is_taken_over_at_once(tmp_path):
    path, plan = tmp_path / "a.lut", make_plan(SPACE, SETTINGS)
    dead = f"{own_name().split('/')[0]}/999999999/5"
    theirs = [visit.id for visit in plan.rounds[-1].visits][:6]

    def dies_elsewhere(number, visit_plan):
        if number == 3:
            with MeasurementStore(path) as other:
                other.change_provenance(lambda known: {**known, "sessions": [*known["sessions"], {"collector": dead}]})
                other.claim(theirs, dead, time.time(), LEASE_S)

    pauses = []
    with MeasurementStore(path) as store:
        summary = collect(SPACE, ScriptedAgent(dies_elsewhere), store, plan, model_maker=keys_of_blocks, sleep=pauses.append)
    assert summary.complete and summary.measured_visits == plan.visit_count
    assert len(pauses) <= 1


@pytest.mark.slow
def test_two_collectors_at_one_file_share_the_work_and_make_nothing_twice(tmp_path):
    path = tmp_path / "a.lut"
    collected(tmp_path / "whole.lut", ScriptedAgent())
    collectors = [start_collector(path, 0.02) for _ in range(2)]
    assert [collector.wait(120) for collector in collectors] == [0, 0]
    for collector in collectors:
        collector.stdout.close()
    assert visits_in(path) == visits_in(tmp_path / "whole.lut")
    with MeasurementStore(path, read_only=True) as store:
        assert store.outcomes()
        assert len({session["collector"] for session in store.provenance()["sessions"]}) == 2, "both measured"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_a_hundred_random_moments_nothing_is_lost_and_nothing_is_made_twice(tmp_path):
    rng, kills, path = random.Random(0), 0, tmp_path / "0.lut"
    collected(tmp_path / "whole.lut", ScriptedAgent())
    seen: set[str] = set()
    while kills < KILLS:
        with start_collector(path, 0.01) as collector:
            collector.stdout.readline()
            time.sleep(rng.random() * 0.15)
            collector.send_signal(signal.SIGKILL)
            finished = collector.wait(60) == 0
        if finished:  # before the kill: begin afresh, so that a hundred kills happen
            assert visits_in(path) == visits_in(tmp_path / "whole.lut")
            seen, path = set(), tmp_path / f"{kills}.lut"
            continue
        kills += 1
        if path.exists() and path.stat().st_size:
            with MeasurementStore(path) as store:
                now = store.finished_plans()
            assert seen <= now
            seen = now
    collected(path, ScriptedAgent())
    assert visits_in(path) == visits_in(tmp_path / "whole.lut")


class SteppingBack(ScriptedAgent):
    """Its clock is set back an hour with every fifth visit."""

    def measure(self, models, plans):
        for number, visit in enumerate(super().measure(models, plans)):
            before_ns = 1_700_000_000 * 10**9 + number * 10**9 - (number // 5) * 3600 * 10**9
            states = [replace(state, unix_time_ns=before_ns + i * 10**8) for i, state in enumerate((visit.state_before, visit.state_after))]
            yield replace(visit, state_before=states[0], state_after=states[1])


def test_a_clock_that_is_set_back_loses_nothing_and_is_told(tmp_path):
    path = tmp_path / "a.lut"
    assert collected(path, SteppingBack(), time_budget_s=3600).complete
    with MeasurementStore(path, read_only=True) as store:
        evidence = Evidence.of_store(store)
        assert 0 < evidence.seconds() < 2 * len(evidence.visits)
        assert Caution.CLOCK_STEPPED in {check.caution for check in trust_checks(store)}
    again = ScriptedAgent()
    assert collected(path, again, time_budget_s=3600).nothing_to_do and again.workers == []


def test_a_visit_that_another_made_after_the_lease_had_ended_counts_once(tmp_path):
    plan = make_plan(SPACE, SETTINGS)
    with MeasurementStore(tmp_path / "a.lut") as store:

        def overtake(number, visit_plan):
            if number == 4:
                subjects = visit_plan.models
                store.add_visit(visit_plan.id, "alone", 0, subjects, np.full((len(subjects), 3), 10**6), worker="other")

        summary = collect(SPACE, ScriptedAgent(overtake), store, plan, model_maker=keys_of_blocks)
    assert (summary.measured_visits, summary.skipped_visits, summary.complete) == (plan.visit_count - 1, 1, True)
