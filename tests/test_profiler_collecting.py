from __future__ import annotations

import json

import pytest

from luts.store import MeasurementStore
from profiler.cli.main import run

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
