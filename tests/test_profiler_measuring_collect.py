from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_agent import Interrupted, ScriptedAgent, block_cost_ns, keys_of_blocks

from device_agents.base import DeviceError, Visit, WorkerFailed
from device_agents.simulated import SimulatedAgent
from luts.store import MeasurementStore, StoreError, StoreFullError
from luts.table import LatencyTable
from profiler.measuring.collect import collect
from profiler.measuring.models import default_model_maker
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from supernets.places import distinct_blocks
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
ONE_SIZE = TINY.restrict({"resolution": (20,)})
ONE_NETWORK = TINY.restrict({"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)})
SETTINGS = ProtocolSettings(rounds=4, most_rounds=4, alone_visits=5, chain_visits=5, network_visits=5, calibration_networks=3, held_out_networks=2)
FEW = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=1, chain_visits=1, network_visits=1, alone_runs=2, chain_cycles=2, network_runs=2)


def collected(path: Path, agent, measured_space=ONE_NETWORK, settings=FEW, seed=0, **options):
    with MeasurementStore(path) as store:
        return collect(measured_space, agent, store, make_plan(measured_space, settings, seed), model_maker=keys_of_blocks, **options)


def everything(path: Path) -> dict[str, tuple]:
    """What a file holds, by plan."""
    found: dict[str, tuple] = {}
    with MeasurementStore(path, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind):
                key = visit.plan_id
                found[key] = (*found.get(key, (visit.mode, visit.round)), subject.key, tuple(samples.tolist()))
    return found


# --- what is measured --------------------------------------------------------------------------------------------------


def test_the_true_cost_of_every_block_and_network_is_recovered_through_two_speeds(tmp_path):
    summary = collected(tmp_path / "a.lut", ScriptedAgent(slow_share=0.6), ONE_SIZE, SETTINGS)
    assert summary.complete and summary.measured_visits == make_plan(ONE_SIZE, SETTINGS).visit_count
    for mode in ("alone", "chain"):
        table = LatencyTable.open(tmp_path / "a.lut", mode)
        assert set(table.entries) == {block.key for block in distinct_blocks(ONE_SIZE)}
        for key, entry in table.entries.items():
            assert entry.latency_ms == pytest.approx(block_cost_ns(key) / 1e6, rel=0.02), key
            assert entry.visits >= 20
            assert entry.origin == "measured"
    for network in table.networks():
        assert network.latency_ms == pytest.approx(sum(block_cost_ns(block.key) for block in network.blocks) / 1e6, rel=0.02)
        assert table.latency_ms(network.blocks) == pytest.approx(network.latency_ms, rel=0.02)
    assert Counter(network.role for network in table.networks()) == {"calibration": 3, "held_out": 2}


def test_the_simulated_device_is_measured_from_onnx_files_and_stays_named_as_simulated(tmp_path):
    pytest.importorskip("onnx")
    plan = make_plan(ONE_SIZE, SETTINGS)
    with MeasurementStore(tmp_path / "a.lut") as store, SimulatedAgent() as agent:
        assert collect(ONE_SIZE, agent, store, plan).complete
    table = LatencyTable.open(tmp_path / "a.lut", "alone")
    assert {entry.origin for entry in table.entries.values()} == {"simulated"}
    maker = default_model_maker("onnx")
    for block in distinct_blocks(ONE_SIZE)[::9]:
        (truth_ns,) = SimulatedAgent().true_ns([maker([block])])
        assert table.entry(block).latency_ms == pytest.approx(truth_ns / 1e6, rel=0.03)


def test_every_round_is_one_fresh_worker_that_loads_each_model_once(tmp_path):
    agent = ScriptedAgent()
    collected(tmp_path / "a.lut", agent)
    plan = make_plan(ONE_NETWORK, FEW)
    assert agent.workers == [[visit.id for visit in part.visits] for part in plan.rounds]
    for blocks, networks in zip(agent.loaded[::2], agent.loaded[1::2], strict=True):
        assert Counter(blocks) == dict.fromkeys(plan.blocks, 1)
        assert Counter(networks) == dict.fromkeys([plan.anchor, *plan.networks], 1)


def test_models_are_made_once_for_all_rounds(tmp_path):
    made = []

    def maker(blocks):
        made.append(tuple(blocks))
        return keys_of_blocks(blocks)

    plan = make_plan(ONE_NETWORK, FEW)
    with MeasurementStore(tmp_path / "a.lut") as store:
        collect(ONE_NETWORK, ScriptedAgent(), store, plan, model_maker=maker)
    assert len(made) == len(set(made)) == len(plan.blocks) + len(plan.networks)


def test_the_file_is_one_file_in_the_end_and_knows_how_it_came_to_be(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent(governor="performance", extra={"board": "kitchen"}), seed=3, clock=lambda: 1_700_000_000.5)
    assert [file.name for file in tmp_path.iterdir()] == ["a.lut"]
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        assert store.collection() == make_plan(ONE_NETWORK, FEW, 3).identity
        (session,) = store.provenance()["sessions"]
        assert store.condition().runtime == "script"
    assert session["began_unix_s"] == 1_700_000_000.5
    assert session["device"]["governor"] == "performance"
    assert session["device"]["extra"] == {"board": "kitchen"}


def test_progress_counts_visits_up_to_the_end_also_when_continued(tmp_path):
    seen = []
    total = make_plan(ONE_NETWORK, FEW).visit_count
    with pytest.raises(Interrupted):
        collected(tmp_path / "a.lut", interrupted_at(7), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(done, total) for done in range(8)]
    seen.clear()
    collected(tmp_path / "a.lut", ScriptedAgent(), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(done, total) for done in range(7, total + 1)]


# --- interruptions -----------------------------------------------------------------------------------------------------


def interrupted_at(visit: int) -> ScriptedAgent:
    def before_visit(number, plan):
        if number == visit:
            raise Interrupted

    return ScriptedAgent(before_visit)


def test_interrupted_at_any_visit_the_same_call_goes_on_and_ends_with_the_same_visits_none_made_twice(tmp_path):
    undisturbed = ScriptedAgent()
    collected(tmp_path / "whole.lut", undisturbed)
    expected = everything(tmp_path / "whole.lut")
    total = make_plan(ONE_NETWORK, FEW).visit_count
    assert len(expected) == total
    for visit in range(total):
        path = tmp_path / f"{visit}.lut"
        first, second = interrupted_at(visit), ScriptedAgent()
        with pytest.raises(Interrupted):
            collected(path, first)
        summary = collected(path, second)
        assert (summary.skipped_visits, summary.measured_visits) == (visit, total - visit)
        assert everything(path) == expected
        assert Counter(name for made in first.workers + second.workers for name in made) == dict.fromkeys(expected, 1)


def test_interrupted_between_every_two_visits_it_still_ends(tmp_path):
    total = make_plan(ONE_NETWORK, FEW).visit_count
    for _ in range(total - 1):
        with pytest.raises(Interrupted):
            collected(tmp_path / "a.lut", interrupted_at(1))
    assert collected(tmp_path / "a.lut", interrupted_at(1)).measured_visits == 1
    assert len(everything(tmp_path / "a.lut")) == total


def test_a_finished_collection_does_nothing_says_so_and_leaves_the_file_as_it_is(tmp_path):
    first = collected(tmp_path / "a.lut", ScriptedAgent())
    assert not first.nothing_to_do
    before, agent = (tmp_path / "a.lut").read_bytes(), ScriptedAgent()
    summary = collected(tmp_path / "a.lut", agent)
    assert summary.nothing_to_do and summary.complete
    assert (summary.measured_visits, summary.skipped_visits, summary.pending_visits) == (0, first.measured_visits, 0)
    assert agent.workers == []
    assert (tmp_path / "a.lut").read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from scripted_agent import ScriptedAgent
from test_profiler_measuring_collect import collected
def before_visit(number, plan):
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
collected(Path(sys.argv[1]), ScriptedAgent(before_visit))
"""


@pytest.mark.slow
@pytest.mark.parametrize("visit", [0, 1, 13, 27])
def test_killed_outright_the_same_command_goes_on_where_it_was(tmp_path, visit):
    collected(tmp_path / "whole.lut", ScriptedAgent())
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.lut"), str(visit)], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    summary = collected(tmp_path / "a.lut", ScriptedAgent())
    assert summary.skipped_visits == visit
    assert everything(tmp_path / "a.lut") == everything(tmp_path / "whole.lut")


def test_a_full_disk_keeps_what_was_measured_and_the_same_call_goes_on(tmp_path):
    path, plan = tmp_path / "a.lut", make_plan(ONE_SIZE, FEW)
    collected(tmp_path / "whole.lut", ScriptedAgent(), ONE_SIZE)
    with MeasurementStore(path) as store:

        def fill_the_disk(number, plan):
            if number == 10:
                (pages,) = store._database._pragma("page_count")
                store._database._pragma(f"max_page_count = {pages + 2}")

        with pytest.raises(StoreFullError):
            collect(ONE_SIZE, ScriptedAgent(fill_the_disk), store, plan, model_maker=keys_of_blocks)
    kept = len(everything(path))
    assert 10 <= kept < plan.visit_count
    assert collected(path, ScriptedAgent(), ONE_SIZE).skipped_visits == kept
    assert everything(path) == everything(tmp_path / "whole.lut")


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_a_file_of_another_condition_is_refused_before_anything_is_measured(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent())
    before, other = everything(tmp_path / "a.lut"), ScriptedAgent(runtime_version="2.0", threads=4)
    with pytest.raises(StoreError, match=r"another condition \(runtime_version '1\.0' there, '2\.0' now; threads 1 there, 4 now\)"):
        collected(tmp_path / "a.lut", other)
    assert other.workers == []
    assert everything(tmp_path / "a.lut") == before


def test_a_kernel_or_governor_that_changed_is_no_other_condition_but_is_noted(tmp_path):
    with pytest.raises(Interrupted):
        collected(tmp_path / "a.lut", interrupted_at(3))
    collected(tmp_path / "a.lut", ScriptedAgent(kernel="6.9"))
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        assert [session["device"]["kernel"] for session in store.provenance()["sessions"]] == [None, "6.9"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed 0 there, 1 now"),
        ({"settings": replace(FEW, alone_runs=3)}, "alone_runs 2 there, 3 now"),
        ({"measured_space": TINY.restrict({"resolution": (24,)})}, r"restrictions .*'resolution': \[20\].* there, .*\[24\]"),
        ({"measured_space": space("ofa-mobilenetv3-tiny:classes=7")}, "space 'ofa-mobilenetv3-tiny' there, 'ofa-mobilenetv3-tiny:classes=7' now"),
    ],
)
def test_another_plan_is_refused_naming_what_differs(tmp_path, options, words):
    collected(tmp_path / "a.lut", ScriptedAgent())
    agent = ScriptedAgent()
    with pytest.raises(StoreError, match=rf"a\.lut was begun with another plan \(.*{words}"):
        collected(tmp_path / "a.lut", agent, **options)
    assert agent.workers == []


def test_more_rounds_extend_a_file_and_fewer_find_it_finished(tmp_path):
    first = collected(tmp_path / "a.lut", ScriptedAgent())
    more = collected(tmp_path / "a.lut", ScriptedAgent(), settings=replace(FEW, rounds=3))
    assert more.skipped_visits == first.measured_visits
    assert more.measured_visits == first.measured_visits // 2
    assert collected(tmp_path / "a.lut", ScriptedAgent()).nothing_to_do
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        assert store.collection()["settings"]["rounds"] == 3


def test_a_plan_of_another_space_is_refused(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store, pytest.raises(ValueError, match="the plan is for space 'ofa-mobilenetv3-tiny', not"):
        collect(space("ofa-mobilenetv3-w1.0"), ScriptedAgent(), store, make_plan(ONE_NETWORK, FEW))


class Misbehaving(ScriptedAgent):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def measure(self, models, plans):
        return self.change(super().measure(models, plans))


def unasked(visits):
    for visit in visits:
        yield Visit("who?", visit.samples_ns, visit.state_before, visit.state_after, visit.worker)


def too_short(visits):
    for visit in visits:
        yield Visit(visit.plan_id, visit.samples_ns[:, 1:], visit.state_before, visit.state_after, visit.worker)


def twice(visits):
    for visit in visits:
        yield visit
        yield visit


def test_a_worker_that_answers_something_else_than_asked_is_an_error(tmp_path):
    for number, change in enumerate((unasked, too_short, twice)):
        with pytest.raises(WorkerFailed, match="nobody asked for that"):
            collected(tmp_path / f"{number}.lut", Misbehaving(change))


def test_a_worker_that_ends_early_is_an_error_that_tells_how_far_it_came(tmp_path):
    with pytest.raises(WorkerFailed, match=r"ended after 5 of \d+ visits; run the same command to go on"):
        collected(tmp_path / "a.lut", Misbehaving(lambda visits: (visit for _, visit in zip(range(5), visits, strict=False))))
    assert len(everything(tmp_path / "a.lut")) == 5


# --- throttling --------------------------------------------------------------------------------------------------------


def test_visits_of_a_throttled_device_are_kept_as_discarded_and_made_again(tmp_path):
    pauses = []
    agent = ScriptedAgent(throttled=lambda plan: plan.id[0] == "0" and int(plan.id.split(".")[1], 16) % 3 == 0 and ".again" not in plan.id)
    summary = collected(tmp_path / "a.lut", agent, sleep=pauses.append)
    plan = make_plan(ONE_NETWORK, FEW)
    throttled = [visit.id for visit in plan.rounds[0].visits if int(visit.id.split(".")[1], 16) % 3 == 0]
    assert 0 < len(throttled) < len(plan.rounds[0].visits)
    assert summary.complete
    assert (summary.measured_visits, summary.discarded_visits, len(pauses)) == (plan.visit_count, len(throttled), len(throttled))
    assert len(everything(tmp_path / "a.lut")) == plan.visit_count
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        records = {visit.number: visit for kind in ("block", "network") for _, visit, _ in store.samples(kind, include_discarded=True)}
    assert sorted(visit.plan_id for visit in records.values() if visit.discarded == "throttled") == sorted(throttled)
    assert all(visit.state_after["throttled"] for visit in records.values() if visit.discarded)


def test_a_visit_that_is_throttled_every_time_stays_pending_and_is_made_by_the_same_call_later(tmp_path):
    stubborn = make_plan(ONE_NETWORK, FEW).rounds[0].visits[4].id
    summary = collected(tmp_path / "a.lut", ScriptedAgent(throttled=lambda plan: plan.id.startswith(stubborn)), sleep=lambda _: None)
    assert (summary.pending_visits, summary.discarded_visits, summary.complete) == (1, 3, False)
    later = collected(tmp_path / "a.lut", ScriptedAgent())
    assert (later.measured_visits, later.complete) == (1, True)


def test_a_device_that_does_not_cool_down_gets_growing_pauses_and_then_an_error(tmp_path):
    pauses = []
    with pytest.raises(DeviceError, match="throttled in 9 visits in a row, with pauses between them; cool it"):
        collected(tmp_path / "a.lut", ScriptedAgent(throttled=lambda plan: True), sleep=pauses.append)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert everything(tmp_path / "a.lut") == {}


def test_samples_of_several_positions_and_chains_are_pooled(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent(), ONE_SIZE)
    pooled: dict[str, list[np.ndarray]] = {}
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        for subject, _, samples in store.samples("block", "chain"):
            pooled.setdefault(subject.key, []).append(samples)
    table = LatencyTable.open(tmp_path / "a.lut")
    stem = ONE_SIZE.blocks(ONE_SIZE.largest())[0]
    assert len(pooled[stem.key]) > 2 * FEW.rounds  # the stem stands in every chain
    for key, visits in pooled.items():
        assert table.entries[key].latency_ms == pytest.approx(np.percentile(np.concatenate(visits), 10) / 1e6, rel=2e-3)  # workers are put right
