from __future__ import annotations

import json

import pytest

from device_agents.base import Visit
from device_agents.simulated import SimulatedAgent
from luts.store import MeasurementStore
from luts.table import LatencyTable
from profiler.cli.main import run
from profiler.collecting import collect_table, space_to_measure

pytest.importorskip("onnx")
COLLECT = ["collect", "--device", "simulated", "--space", "ofa-mobilenetv3-tiny", "--resolutions", "20", "--preset", "quick", "--time-budget"]


def test_a_budget_that_is_spent_is_not_spent_again_and_warnings_are_shown_and_kept(tmp_path, capsys):
    out = ["--out", str(tmp_path / "a.lut")]
    assert run([*COLLECT, "10s", *out, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["summary"]["stopped_by"], first["blocks"]) == ("time budget", 60)
    codes = [warning["code"] for warning in first["warnings"]]
    assert codes[0] == "simulated" and "unconverged" in codes
    before = (tmp_path / "a.lut").read_bytes()
    assert run([*COLLECT, "10s", *out]) == 0
    said = capsys.readouterr().err
    assert "nothing to do" in said and "ended by time budget" in said and "warning (unconverged): " in said
    assert (tmp_path / "a.lut").read_bytes() == before
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        assert [warning.code for warning in store.warnings()] == codes
        assert {outcome.mode for outcome in store.outcomes()} == {"alone", "chain", "network"}
    assert run([*COLLECT, "14s", *out, "--json"]) == 0
    more = json.loads(capsys.readouterr().out)["summary"]
    assert more["measured_visits"] > 0 and more["skipped_visits"] == first["summary"]["measured_visits"]


def test_a_budget_that_is_no_duration_is_refused(tmp_path, capsys):
    assert run([*COLLECT, "soon", "--out", str(tmp_path / "a.lut")]) in (1, 2)
    assert "duration 'soon' is not understood" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class SummaryAgent(SimulatedAgent):
    """The simulated device as a program would time it that runs one model and tells the total of its runs only."""

    runs_chains = False

    def measure(self, models, plans):
        for visit in super().measure(models, plans):
            total_ns = visit.samples_ns.sum(axis=1, keepdims=True)
            yield Visit(visit.plan_id, total_ns, visit.state_before, visit.state_after, visit.worker, visit.samples_ns.shape[1] * visit.repeats)


def test_a_device_that_runs_no_chains_and_tells_totals_only_gives_a_table_of_blocks_alone(tmp_path):
    place = tmp_path / "phone.lut"
    result = collect_table(space_to_measure("ofa-mobilenetv3-tiny", "20"), SummaryAgent("phone"), place, "quick", 0, lambda *_: None, rounds=1)
    assert result.sentence().startswith(f"{place} holds 60 blocks and 20 whole networks of ofa-mobilenetv3-tiny; ")
    table = LatencyTable.open(place)
    assert (table.mode, len(table.entries)) == ("alone", 60)
    with MeasurementStore(place, read_only=True) as store:
        assert {outcome.mode for outcome in store.outcomes()} == {"alone", "network"}
