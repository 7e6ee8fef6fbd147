from __future__ import annotations

import json
from dataclasses import replace

import pytest
from scripted_agent import Interrupted, ScriptedAgent, keys_of_blocks, model_cost_ns

from device_agents.base import DeviceError
from luts.store import MeasurementStore, StoreError
from luts.table import LatencyTable
from profiler.measuring.collect import collect
from profiler.measuring.networks import NetworkItem, measure_networks
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
SETTINGS = ProtocolSettings(rounds=4, network_visits=5, network_runs=6)
SMALLEST, LARGEST = TINY.smallest(), TINY.largest()


def item(architecture, name="net", role="finalist", model=None) -> NetworkItem:
    return NetworkItem(name, tuple(TINY.blocks(architecture)), architecture, role, model)


def measured(path, items, agent=None, settings=SETTINGS, **options):
    with MeasurementStore(path) as store:
        return measure_networks(agent or ScriptedAgent(slow_share=0.5), store, items, settings, model_maker=keys_of_blocks, **options)


def test_networks_are_measured_in_the_order_given_with_all_they_were_given_with(tmp_path):
    found = measured(tmp_path / "a.lut", [item(LARGEST, "big"), item(SMALLEST, "small", "verification")])
    big, small = found.measurements
    assert [(m.name, m.role, m.architecture) for m in (big, small)] == [("big", "finalist", LARGEST), ("small", "verification", SMALLEST)]
    for measurement in (big, small):
        assert measurement.latency_ms == pytest.approx(model_cost_ns(keys_of_blocks(measurement.blocks)) / 1e6, rel=0.02)
        assert (measurement.visits, measurement.samples) == (20, 120)
        assert 0 <= measurement.relative_spread < 0.1
    assert found.summary.complete and found.summary.measured_visits == 40


def test_a_file_given_with_a_network_is_what_is_measured(tmp_path):
    other = json.dumps(["another", "network"]).encode()
    (measurement,) = measured(tmp_path / "a.lut", [item(SMALLEST, model=other)]).measurements
    assert measurement.latency_ms == pytest.approx(model_cost_ns(other) / 1e6, rel=0.02)
    assert measurement.architecture == SMALLEST


def test_one_architecture_as_two_files_is_two_measurements_side_by_side(tmp_path):
    files = [json.dumps(keys).encode() for keys in (["a"], ["a", "b"])]
    agent = ScriptedAgent()
    one, two = measured(tmp_path / "a.lut", [item(SMALLEST, f"file{n}", model=f) for n, f in enumerate(files)], agent).measurements
    assert [m.latency_ms for m in (one, two)] == [pytest.approx(model_cost_ns(f) / 1e6, rel=0.02) for f in files]
    assert [len(names) for names in agent.loaded] == [2] * SETTINGS.rounds  # both in every worker, not one after the other


def test_killed_it_goes_on_and_finished_it_does_nothing(tmp_path):
    items = [item(SMALLEST, "a"), item(LARGEST, "b")]

    def interrupt(number, plan):
        if number == 11:
            raise Interrupted

    with pytest.raises(Interrupted):
        measured(tmp_path / "a.lut", items, ScriptedAgent(interrupt))
    assert (found := measured(tmp_path / "a.lut", items)).summary.skipped_visits == 11
    again = measured(tmp_path / "a.lut", items, agent := ScriptedAgent())
    assert again.summary.nothing_to_do and agent.workers == []
    assert again.measurements == found.measurements


def test_a_new_session_measures_anew_and_keeps_apart(tmp_path):
    first = measured(tmp_path / "a.lut", [item(SMALLEST)]).measurements[0]
    again = measured(tmp_path / "a.lut", [item(SMALLEST)], session="monday")
    assert again.summary.measured_visits == 20
    assert again.measurements[0].visits == 20
    assert again.measurements[0].key != first.key


def test_networks_are_measured_into_the_table_of_a_space(tmp_path):
    small = TINY.restrict({"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)})
    with MeasurementStore(tmp_path / "a.lut") as store:
        collect(small, ScriptedAgent(), store, make_plan(small, replace(SETTINGS, rounds=1)), model_maker=keys_of_blocks)
    measured(tmp_path / "a.lut", [item(LARGEST)])
    assert {network.role for network in LatencyTable.open(tmp_path / "a.lut").networks()} == {"calibration", "finalist"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.lut"]


def test_another_condition_is_refused(tmp_path):
    measured(tmp_path / "a.lut", [item(SMALLEST)])
    with pytest.raises(StoreError, match="cores"):
        measured(tmp_path / "a.lut", [item(LARGEST)], ScriptedAgent(cores=(0,)))


def test_a_network_whose_every_visit_was_throttled_has_no_latency(tmp_path):
    items = [item(SMALLEST, "cool"), item(LARGEST, "hot")]
    hot = items[1].key()
    with pytest.raises(DeviceError, match="no visit of network 'hot' counts, the device was throttled in all"):
        measured(tmp_path / "a.lut", items, ScriptedAgent(throttled=lambda plan: hot in plan.models), sleep=lambda _: None,
                 settings=replace(SETTINGS, rounds=2, network_visits=1))  # fmt: skip
