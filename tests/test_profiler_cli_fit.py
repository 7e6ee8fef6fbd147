"""What `profiler fit` refuses before it does any work, and what it warns of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.cli.main import run

TINY = "ofa-mobilenetv3-tiny"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return " ".join(captured.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--device", "local"], "--device"), (["--runtime", "litert"], "--runtime"), (["--threads", "2", "--cores", "0,1"], "--threads, --cores"),
        (["--devices", "mine.toml"], "--devices"), (["--seed", "0"], "--seed"),
    ],
)  # fmt: skip
def test_options_of_measuring_are_refused_beside_a_table(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "latency", "--table", "no-such.lut", "--out", "latency", *arguments]) == 2
    assert f"{named} is for measuring, and --table FILE measures nothing" in said(capsys)


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "latency", "--networks", "10", "--space", TINY, "--device", "simulated"], ["fit", "latency", "--table", "no-such.lut"],
        ["fit", "accuracy", "--samples", "no-such.db"],
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for out in (taken, taken / "below"):
        assert run([*command, "--out", str(out)]) == 2
        assert f"{taken} is a file, not a folder" in said(capsys)
    assert list(tmp_path.iterdir()) == [taken] and taken.read_text() == "a file"


def test_networks_measured_for_a_predictor_are_checked_as_a_collection_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "latency", "--networks", "4", "--space", TINY, "--device", "simulated", "--out", str(tmp_path / "latency"), "--json"]
    assert run(fit) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out).keys() == {"flops_line", "physical"}
    assert "warning (simulated): the device is simulated: its figures come from a formula" in " ".join(captured.err.split())
