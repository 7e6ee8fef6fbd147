"""Commands on a store that is not a file: a real PostgreSQL server, started for these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import postgres_server

from luts.store import MeasurementStore
from profiler.cli.main import run

SIZES = ["--space", "ofa-mobilenetv3-tiny", "--resolutions", "20", "--device", "simulated", "--preset", "quick"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def visits_of(place: str | Path) -> dict[str, bytes]:
    """Return plan id and subject → samples of the rounds that hold everything; what later ones hold is a matter of time spent."""
    with MeasurementStore(place, read_only=True) as store:
        found = {}
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind):
                if visit.round < 5:
                    found[f"{visit.plan_id}/{subject.key}"] = samples.tobytes()
        return found


def test_two_collectors_at_one_server_measure_what_one_does_into_a_file_and_the_table_is_read_by_url(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server}&schema=lab"
    command = [sys.executable, "-m", "profiler", "collect", *SIZES, "--store", url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    assert run(["collect", *SIZES, "--out", str(tmp_path / "one.lut")]) == 0
    assert visits_of(url) == visits_of(tmp_path / "one.lut")
    capsys.readouterr()
    shown = []
    for place in (url, str(tmp_path / "one.lut")):
        assert run(["table", "show", place, "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0]["condition"] == shown[1]["condition"]
    by_url, by_file = ({entry["key"]: entry["latency_ms"] for entry in table["entries"]} for table in shown)
    assert by_url == pytest.approx(by_file, rel=0.05)
    assert run(["fit", "latency", "--table", url, "--out", str(tmp_path / "latency")]) == 0
    assert run(["collect", *SIZES, "--store", url]) == 0
    assert "nothing to do: postgresql://" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("places", "said"),
    [([], "give one of them"), (["--out", "a.lut", "--store", "postgresql://x/y"], "give one of them"),
     (["--store", "mysql://x/y"], "is not a place for measurements")],
)  # fmt: skip
def test_a_store_that_is_none_is_refused_in_one_line(places: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["collect", *SIZES, *places]) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_a_server_that_is_not_there_is_told_in_one_line_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["collect", *SIZES, "--store", "postgresql://me:secret@127.0.0.1:9/none"]) == 1
    error = capsys.readouterr().err
    assert "127.0.0.1" in error and "secret" not in error and "Traceback" not in error
