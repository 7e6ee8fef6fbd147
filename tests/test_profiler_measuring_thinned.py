from __future__ import annotations

import re
from pathlib import Path

import pytest
import scripted_agent
from scripted_agent import Interrupted, ScriptedAgent, keys_of_blocks

from luts.store import MeasurementStore, StoreError
from luts.table import LatencyTable
from profiler.measuring.collect import collect
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from profiler.measuring.thinned import collect_thinned, thinned_plan, thinned_table
from profiler.measuring.thinning import thin
from supernets.places import distinct_blocks
from supernets.spaces import space

SPACE = space("ofa-mobilenetv3-tiny:resolutions=64/68/72/76/80/84/88/92/96").restrict({"kernel_size": (3, 7), "expand_ratio": (6,), "depth": (2,)})
SETTINGS = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=1, chain_visits=1, network_visits=1, alone_runs=2, chain_cycles=2, network_runs=2,
                            calibration_networks=3, held_out_networks=2)  # fmt: skip
THINNING = thin(SPACE)


def by_law_ns(key: str) -> int:
    """0.1 ms and a share of the area."""
    return 100_000 + 1_000 * int(re.search(r"-s(\d+)-", key).group(1)) ** 2


@pytest.fixture(autouse=True)
def costs_follow_the_law(monkeypatch):
    monkeypatch.setattr(scripted_agent, "block_cost_ns", by_law_ns)


def collected(path: Path, agent: ScriptedAgent, time_budget_s: float | None = None):
    with MeasurementStore(path) as store:

        def measure(plan, budget_s):
            return collect(SPACE, agent, store, plan, model_maker=keys_of_blocks, time_budget_s=budget_s, sleep=lambda seconds: None)

        return collect_thinned(THINNING, store, SETTINGS, 0, measure, time_budget_s)


def thinned_of(path: Path):
    with MeasurementStore(path, read_only=True) as store:
        return thinned_table(store)


def test_a_thinned_table_has_every_block_of_the_space_and_says_which_are_interpolated(tmp_path):
    summary = collected(tmp_path / "a.lut", ScriptedAgent())
    measured = {block.key for architecture in THINNING.architectures for block in SPACE.blocks(architecture)}
    for mode in ("alone", "chain"):
        table = LatencyTable.open(tmp_path / "a.lut", mode)
        assert not table.missing(distinct_blocks(SPACE))
        assert {key for key, entry in table.entries.items() if entry.origin == "measured"} == measured
        assert {entry.origin for entry in table.entries.values()} == {"measured", "interpolated"}
        for key, entry in table.entries.items():
            assert entry.latency_ms == pytest.approx(by_law_ns(key) / 1e6, rel=0.02), key
    assert summary.complete and summary.measured_visits == thinned_plan(THINNING, SETTINGS, 0).visit_count
    assert len(table.networks("calibration")) == 3 and len(table.networks("held_out")) == 2


def test_the_saving_and_the_spot_checks_are_told(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent())
    thinned = thinned_of(tmp_path / "a.lut")
    assert thinned.resolutions == THINNING.resolutions
    assert thinned.measured_blocks + thinned.interpolated_blocks == len(distinct_blocks(SPACE)) and thinned.interpolated_blocks > 0
    assert 0.05 < thinned.saved_share < 0.7
    assert max(map(abs, thinned.misses)) < 0.02
    assert f"{thinned.measured_blocks} of {len(distinct_blocks(SPACE))} blocks measured" in thinned.sentence()
    assert "what 0 of them missed by more than 3% was measured" in thinned.sentence()


def test_a_finished_thinned_table_is_left_as_it_is(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent())
    before = (tmp_path / "a.lut").read_bytes()
    agent = ScriptedAgent()
    assert collected(tmp_path / "a.lut", agent).nothing_to_do and not agent.workers
    assert (tmp_path / "a.lut").read_bytes() == before


def test_where_checks_miss_the_blocks_between_are_measured_and_kept_off_the_law(tmp_path, monkeypatch):
    def off_the_law_ns(key: str) -> int:
        return round(by_law_ns(key) * (1.2 if "-k7-" in key and int(re.search(r"-s(\d+)-", key).group(1)) % 2 else 1.0))

    monkeypatch.setattr(scripted_agent, "block_cost_ns", off_the_law_ns)
    summary = collected(tmp_path / "a.lut", ScriptedAgent())
    checks = THINNING.spot_checks({block: off_the_law_ns(block.key) / 1e6 for a in THINNING.architectures for block in SPACE.blocks(a)})
    further = THINNING.further(checks)
    assert any(check.missed for check in checks) and further
    assert summary.complete and summary.measured_visits >= thinned_plan(THINNING, SETTINGS, 0, further).visit_count
    table = LatencyTable.open(tmp_path / "a.lut")
    for block in (block for architecture in further for block in SPACE.blocks(architecture)):
        assert table.entry(block).origin == "measured"
        assert table.entry(block).latency_ms == pytest.approx(off_the_law_ns(block.key) / 1e6, rel=0.02)


@pytest.mark.parametrize("visits", [3, 60, 140])
def test_a_killed_thinned_collection_goes_on_and_makes_no_visit_twice(tmp_path, visits):
    def stop(number, plan):
        if number == visits:
            raise Interrupted

    with pytest.raises(Interrupted):
        collected(tmp_path / "a.lut", ScriptedAgent(stop))
    summary = collected(tmp_path / "a.lut", ScriptedAgent())
    collected(tmp_path / "b.lut", ScriptedAgent())
    assert summary.complete and summary.measured_visits + visits == thinned_plan(THINNING, SETTINGS, 0).visit_count
    halves, whole = LatencyTable.open(tmp_path / "a.lut"), LatencyTable.open(tmp_path / "b.lut")
    assert {key: entry.origin for key, entry in halves.entries.items()} == {key: entry.origin for key, entry in whole.entries.items()}
    for key, entry in halves.entries.items():  # a killed round has one worker more, and workers are put right one by one
        assert entry.latency_ms == pytest.approx(whole.entries[key].latency_ms, rel=1e-3)


def test_nothing_is_interpolated_while_visits_are_missing(tmp_path):
    chain = tuple(block.key for block in SPACE.blocks(THINNING.checks[0]))
    summary = collected(tmp_path / "a.lut", ScriptedAgent(throttled=lambda plan: plan.models == chain))
    assert summary.pending_visits == SETTINGS.rounds
    assert thinned_of(tmp_path / "a.lut") is None


def test_a_thinned_file_is_not_gone_on_with_as_a_full_one(tmp_path):
    collected(tmp_path / "a.lut", ScriptedAgent())
    with MeasurementStore(tmp_path / "a.lut") as store, pytest.raises(StoreError, match="thinned"):
        collect(SPACE, ScriptedAgent(), store, make_plan(SPACE, SETTINGS), model_maker=keys_of_blocks)


def test_under_a_time_budget_the_checks_are_judged_after_one_round(tmp_path):
    one_round = []

    def judged(number, plan):
        with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
            if "thinning" in store.provenance() and not one_round:
                one_round.append(number)

    summary = collected(tmp_path / "a.lut", ScriptedAgent(judged), time_budget_s=30.0)
    assert summary.complete
    assert one_round == [thinned_plan(THINNING, SETTINGS, 0).visit_count // SETTINGS.rounds]
    assert not LatencyTable.open(tmp_path / "a.lut").missing(distinct_blocks(SPACE))
