from __future__ import annotations

import numpy as np
import pytest
from scripted_agent import Interrupted, ScriptedAgent, keys_of_blocks, model_cost_ns

from luts.store import MeasurementStore, StoreError
from profiler.live_latency import LiveLatencies, macs_of
from profiler.measuring.settings import ProtocolSettings
from search.driver import search
from search.settings import SearchSettings
from supernets.counts import macs
from supernets.spaces import space

TINY = space("mnasnet-tiny")
SETTINGS = ProtocolSettings(rounds=2, most_rounds=2, network_visits=3, network_runs=4, network_warmup=0)
SOME = TINY.sample_different(5, np.random.default_rng(0))


def live(path, agent):
    return LiveLatencies(TINY, agent, MeasurementStore(path), SETTINGS, model_maker=keys_of_blocks)


def true_ms(population):
    return [model_cost_ns(keys_of_blocks(TINY.blocks(architecture))) / 1e6 for architecture in TINY.decode(population)]


def test_latencies_are_measured_side_by_side_in_every_process(tmp_path):
    latency = live(tmp_path / "live.lut", agent := ScriptedAgent())
    assert latency(SOME) == pytest.approx(true_ms(SOME), rel=0.02)
    assert [len(names) for names in agent.loaded] == [5] * SETTINGS.rounds
    assert all(len({name for name in order[:10]}) > 2 for order in agent.workers)
    assert [(m.role, m.architecture) for m in latency.measurements] == [("searched", each) for each in TINY.decode(SOME)]
    assert latency.origin == "measured"


def test_each_network_is_measured_once_whoever_asks(tmp_path):
    latency = live(tmp_path / "live.lut", agent := ScriptedAgent())
    twice = latency(np.concatenate([SOME[:3], SOME[:3]]))
    assert np.array_equal(twice[:3], twice[3:]) and agent.visits == 3 * 6
    latency(SOME)
    assert agent.visits == 5 * 6
    again = live(tmp_path / "live.lut", other := ScriptedAgent())(SOME[::-1])
    assert other.visits == 0 and np.array_equal(again, latency(SOME)[::-1])


def test_killed_in_a_generation_it_goes_on(tmp_path):
    def interrupt(number, plan):
        if number == 17:
            raise Interrupted

    with pytest.raises(Interrupted):
        live(tmp_path / "live.lut", ScriptedAgent(interrupt))(SOME)
    found = live(tmp_path / "live.lut", agent := ScriptedAgent())(SOME)
    assert agent.visits == 30 - 17
    assert found == pytest.approx(true_ms(SOME), rel=0.02)


def test_another_condition_is_refused(tmp_path):
    live(tmp_path / "live.lut", ScriptedAgent())(SOME[:1])
    with pytest.raises(StoreError, match="cores"):
        live(tmp_path / "live.lut", ScriptedAgent(cores=(0,)))(SOME)


def test_a_search_measures_what_it_scores_and_nothing_else(tmp_path):
    latency = live(tmp_path / "live.lut", agent := ScriptedAgent())
    settings = SearchSettings(population_size=4, generations=3)

    def found(source):
        return search(TINY, lambda population: macs_of(TINY)(population) / 1e8, source, 8.0, "random", settings, 1, objective="soft-product",
                      guide=macs_of(TINY))  # fmt: skip

    result = found(latency)
    assert result.evaluations == result.latency_evaluations == len(latency.measurements) == agent.visits / 6 == 13
    lowest = TINY.decode(TINY.sample_population(500, np.random.default_rng(0)))
    assert macs(TINY.blocks(result.lowest.architecture)) <= min(macs(TINY.blocks(each)) for each in lowest)
    again = found(live(tmp_path / "live.lut", other := ScriptedAgent()))
    assert other.visits == 0 and again == result


def test_multiply_adds_are_those_of_the_networks():
    assert macs_of(TINY)(SOME).tolist() == [macs(TINY.blocks(architecture)) for architecture in TINY.decode(SOME)]
