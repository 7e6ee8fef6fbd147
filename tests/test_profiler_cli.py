"""The commands as users type them, on the simulated device, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from luts.condition import Condition
from luts.store import MeasurementStore
from luts.table import LatencyTable
from predictors.latency import LATENCY_PREDICTORS
from predictors.latency import load as load_latency
from profiler.cli.main import run
from profiler.measuring.settings import preset
from profiler.shipped import shipped_weights
from supernets.space import Architecture
from supernets.spaces import space as search_space

TINY = "ofa-mobilenetv3-tiny"
CONDITION = Condition("local", "onnxruntime", "1.0", "CPUExecutionProvider", 1, (0,), 1, "float32", "a processor")
COLLECT = ["collect", "--device", "simulated", "--space", TINY, "--resolutions", "20", "--preset", "quick"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "simulated.lut"
    assert run([*COLLECT, "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted accuracy predictor; its labels come from a formula, which is all that a search needs."""
    from predictors.accuracy import create

    space = search_space(TINY)
    population = space.sample_different(200, np.random.default_rng(0))
    accuracies = 0.5 + 0.01 * (population[:, :1] + (population > 0).mean(axis=1, keepdims=True)).ravel()
    folder = tmp_path_factory.mktemp("predictor") / "ridge"
    create("ridge", TINY).fit(population, accuracies).save(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_collecting_again_does_nothing_and_says_so(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = table.read_bytes()
    assert run([*COLLECT, "--out", str(table)]) == 0
    assert "nothing to do" in said(capsys)
    assert table.read_bytes() == before


def test_a_table_shows_origin_macs_and_latency(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "show", str(table), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["space"] == TINY and len(shown["entries"]) == 60
    assert {entry["origin"] for entry in shown["entries"]} == {"simulated"}
    assert shown["entries"][0]["latency_ms"] == max(entry["latency_ms"] for entry in shown["entries"])
    assert shown["entries"][0]["macs"] > 0


def test_a_search_keeps_its_budget_and_writes_a_subnet_that_other_commands_read(
    table: Path, ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "subnet.json"
    budget_ms = 1.1 * min(network.latency_ms for network in LatencyTable.open(table).networks())
    limits = ["--max-latency-ms", str(budget_ms), "--generations", "20", "--resolutions", "20"]
    assert run(["search", "--table", str(table), "--accuracy", str(ridge), *limits, "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["predicted_latency_ms"] <= budget_ms and record["max_latency_ms"] == budget_ms
    assert record["architecture"]["values"]["resolution"] == 20
    capsys.readouterr()
    assert run(["predict", "--subnet", str(out), "--table", str(table), "--accuracy", str(ridge), "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["macs"] == record["macs"]
    assert predicted["accuracy"] == pytest.approx(record["predicted_accuracy"])
    chosen, *others = predicted["latencies_ms"].keys() - {"sum of the table", "flops_line"}
    assert not others and chosen in LATENCY_PREDICTORS
    lower_ms, upper_ms = predicted["intervals_ms"][chosen]
    assert lower_ms < predicted["latencies_ms"][chosen] < upper_ms
    assert record["predicted_latency_ms"] == pytest.approx(predicted["latencies_ms"][chosen])


def test_a_search_that_measures_its_finalists_returns_one_that_keeps_the_budget_on_the_device(table: Path, ridge: Path, tmp_path: Path) -> None:
    out = tmp_path / "subnet.json"
    budget_ms = float(np.median([network.latency_ms for network in LatencyTable.open(table).networks()]))
    options = ["--max-latency-ms", str(budget_ms), "--generations", "10", "--resolutions", "20", "--finalists", "3", "--device", "simulated"]
    assert run(["search", "--table", str(table), "--accuracy", str(ridge), *options, "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["measured_latency_ms"] <= budget_ms
    assert len([f for f in record["finalists"] if "measured_latency_ms" in f]) == 3


def test_an_impossible_budget_is_refused_with_the_lowest_latency(
    table: Path, ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "subnet.json"
    limits = ["--max-latency-ms", "0.0001", "--resolutions", "20"]
    assert run(["search", "--table", str(table), "--accuracy", str(ridge), *limits, "--out", str(out)]) == 1
    assert "the lowest reachable latency is" in said(capsys)
    assert not out.exists()


def test_a_table_of_another_space_names_what_is_missing(table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    space = search_space("ofa-mobilenetv3-w1.0")
    subnet = tmp_path / "other.json"
    subnet.write_text(json.dumps(space.smallest().to_dict()))
    assert run(["predict", "--subnet", str(subnet), "--table", str(table)]) == 1
    assert "different blocks are not in" in (text := said(capsys)) and "profiler collect" in text


def test_latency_predictors_are_shown_beside_the_flops_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "latency", "--table", str(table), "--resolutions", "20", "--out", str(tmp_path / "latency"), "--json"]) == 0
    qualities = json.loads(capsys.readouterr().out)
    assert qualities["calibrated"]["mape_percent"] < qualities["additive"]["mape_percent"]
    assert qualities["flops_line"]["held_out_count"] == qualities["calibrated"]["held_out_count"] > 0
    assert qualities["terms"]["judged_on"] == "held-out networks" and qualities["terms"]["interval_width_percent"] > 0


def test_ten_networks_make_a_predictor_without_a_table_that_other_commands_take(
    ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latency, subnet = tmp_path / "latency", tmp_path / "subnet.json"
    fit = ["fit", "latency", "--networks", "10", "--space", TINY, "--device", "simulated", "--out", str(latency), "--json"]
    assert run(fit) == 0
    qualities = json.loads(capsys.readouterr().out)
    assert qualities["physical"]["judged_on"] == "networks left out one by one" and qualities["physical"]["calibration_count"] == 10
    assert qualities["physical"]["mape_percent"] < min(5, qualities["flops_line"]["mape_percent"])
    measured = (latency / "networks.lut").read_bytes()
    assert run(fit) == 0 and json.loads(capsys.readouterr().out) == qualities
    assert (latency / "networks.lut").read_bytes() == measured
    predictor = load_latency(latency)
    assert predictor.name == "physical" and predictor.condition.device == "simulated"
    budget_ms = str(np.median(predictor.predict(predictor.space.sample_population(100, np.random.default_rng(0)))))
    options = ["--max-latency-ms", budget_ms, "--generations", "5", "--population", "20", "--device", "simulated", "--finalists", "2"]
    assert run(["search", "--latency", str(latency), "--accuracy", str(ridge), *options, "--out", str(subnet)]) == 0
    capsys.readouterr()
    assert run(["predict", "--subnet", str(subnet), "--latency", str(latency), "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["latencies_ms"].keys() == predicted["intervals_ms"].keys() == {"physical"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one of the two"), (["--table", "a.lut", "--networks", "10"], "one of the two"), (["--networks", "10"], "name one with --space"),
    ],
)  # fmt: skip
def test_a_latency_predictor_is_fitted_to_a_table_or_to_networks(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "latency", "--out", "latency", *arguments]) == 2
    assert expected in said(capsys)


def test_a_report_of_a_table_is_one_page(table: Path, tmp_path: Path) -> None:
    assert run(["report", "--table", str(table), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "MACs against latency" in page and "simulated" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_two_tables_are_compared_on_one_page(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--compare", str(table), str(table), "--out", str(tmp_path / "both.html"), "--json"]) == 0
    assert "Both tables were measured under the same condition" in (tmp_path / "both.html").read_text()
    told = json.loads(capsys.readouterr().out)
    assert told["comparison"]["blocks"]["ratios"]["50"] == 1.0 and told["comparison"]["networks"]["spearman"] == pytest.approx(1)
    assert told["report"].endswith("both.html")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["collect", "--space", "ofa-mobilnet", "--out", "x.lut"], 2, "unknown space 'ofa-mobilnet'; known spaces:"),
        (["collect", "--space", TINY, "--resolutions", "many", "--out", "x.lut"], 2, "resolutions are given as 'many'"),
        (["collect", "--space", TINY, "--cores", "a", "--out", "x.lut"], 2, "--cores is 'a'"),
        (["table", "show", "nowhere.lut"], 1, "nowhere.lut"),
        (["table", "show", "notes.txt"], 1, "notes.txt"),
        (["search", "--table", "notes.txt", "--accuracy", "nowhere", "--max-latency-ms", "1", "--out", "s.json"], 1, "nowhere"),
        (["search", "--accuracy", "nowhere", "--max-latency-ms", "1", "--out", "s.json"], 2, "one of the two"),
        (["export", "--subnet", "notes.txt", "--out", "e"], 1, "notes.txt is not a JSON file"),
        (["export", "--subnet", "list.json", "--out", "e"], 1, "list.json is not a subnet file"),
        (["verify", "--subnet", "nowhere.json"], 1, "there is no file nowhere.json"),
        (["verify", "--subnet", "nowhere.json", "--device", "pixel99"], 2, "unknown device 'pixel99'"),
        (["train", "--space", TINY, "--images", "nowhere", "--out", "t"], 1, "nowhere"),
        (["train", "--space", TINY, "--recipe", "nothing", "--out", "t"], 2, "unknown recipe 'nothing'"),
        (["sample", "--weights", "notes.txt", "--out", "a.db"], 1, "notes.txt"),
        (["fit", "accuracy", "--samples", "notes.txt", "--out", "p"], 1, "notes.txt"),
        (["run", "--space", TINY, "--preset", "slow", "--out", "r"], 2, "unknown preset 'slow'"),
        (["report", "--out", "r.html"], 2, "one of the three"),
        (["report", "--compare", "a.lut", "b.lut", "--subnet", "s.json", "--out", "r.html"], 2, "go with --table"),
        (["spaces", "nothing"], 2, "unknown space 'nothing'"),
    ],
)
def test_bad_input_gives_one_line_and_2_for_what_was_typed_1_for_what_files_hold(
    arguments: list[str], code: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("not what you think")
    Path("list.json").write_text("[]")
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("profiler: ") and error.count("\n") == 1, error
    assert expected in error
    assert "Traceback" not in error and "unexpected" not in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--device", "pixel99"], "unknown device 'pixel99'"),
        (["--device", "simulated", "--preset", "fast"], "unknown preset 'fast'"),
        (["--device", "simulated", "--resolutions", "21"], "resolution 21"),
    ],
)
def test_a_collection_that_cannot_begin_says_why_in_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["collect", "--space", TINY, *arguments, "--out", str(tmp_path / "x.lut")]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("profiler: ") and error.count("\n") == 1 and expected in error


def test_measurements_are_never_written_over_by_something_else(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = table.read_bytes()
    for arguments in (
        ["report", "--table", str(table), "--out", str(table)],
        ["table", "export", str(table), "--out", str(table), "--format", "csv"],
        ["search", "--table", str(table), "--accuracy", "x", "--max-latency-ms", "1", "--out", str(table)],
    ):
        assert run(arguments) == 2
        assert f"--out {table} is a file of measurements, which would be lost" in said(capsys)
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [[*COLLECT, "--out", "a.lut", "--time-budget", "1e9h"], [*COLLECT, "--out", "a.lut", "--time-budget", "٣m"],
     [*COLLECT[:-1], "slow", "--out", "a.lut"], [*COLLECT, "--out", "a.lut", "--cores", "99"], [*COLLECT, "--store", "nonsense"],
     ["devices", "--check", "nonsense"], ["devices", "--check", "simulated", "--minutes", "inf"],
     ["fit", "latency", "--networks", "10", "--space", TINY, "--device", "nope", "--out", "latency"],
     ["table", "export", "a.lut", "--out", "a.csv", "--format", "xml"]],
)  # fmt: skip
def test_what_was_typed_wrong_exits_with_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["collect", "--spac", TINY]) == 2
    assert "--spac" in capsys.readouterr().err


def test_a_full_disk_gives_one_line_and_keeps_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from luts.sqlite_file import StoreFullError
    from luts.store import MeasurementStore

    add, calls = MeasurementStore.add_visit, []

    def full_after_ten(self: MeasurementStore, *arguments: object, **named: object) -> None:
        if len(calls) == 10:
            raise StoreFullError(f"the disk of {self.name} is full; free some space and run the same command again")
        calls.append(1)
        add(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(MeasurementStore, "add_visit", full_after_ten)
    out = tmp_path / "full.lut"
    assert run([*COLLECT, "--out", str(out)]) == 1
    assert "is full" in said(capsys)
    monkeypatch.undo()
    with MeasurementStore(out, read_only=True) as store:
        assert len(store.finished_plans()) == 10


def visits_of(path: Path, rounds: int = 1000) -> dict[str, bytes]:
    """Return every visit of a table's first rounds with its raw samples."""
    found: dict[str, bytes] = {}
    with MeasurementStore(path, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind):
                if visit.round >= rounds:
                    continue
                place = f"{visit.plan_id}/{subject.key}/{len([k for k in found if k.startswith(f'{visit.plan_id}/{subject.key}/')])}"
                found[place] = samples.tobytes()
    return found


@pytest.mark.slow
def test_a_collection_killed_20_times_ends_like_an_undisturbed_one(table: Path, tmp_path: Path) -> None:
    """Except that a killed round has one worker process more, whose drift may have further rounds look at other blocks again."""
    of_everything = preset("quick").rounds
    out = tmp_path / "killed.lut"
    command = [sys.executable, "-m", "profiler", *COLLECT, "--out", str(out)]
    rng = np.random.default_rng(7)
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + rng.uniform(0.5, 2.2)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is not None:  # finished before the kill: begin afresh, so that 20 kills happen
            assert process.returncode == 0
            out.unlink()
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert subprocess.run(command, check=False, stderr=subprocess.PIPE).returncode == 0
    assert visits_of(out, of_everything) == visits_of(table, of_everything)
    killed, undisturbed = visits_of(out), visits_of(table)
    assert all(killed[place] == undisturbed[place] for place in killed.keys() & undisturbed.keys())


@pytest.mark.torch
def test_an_exported_subnet_is_checked_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = search_space(TINY)
    subnet, out = tmp_path / "architecture.json", tmp_path / "exported"
    subnet.write_text(json.dumps(space.restrict({"resolution": [20]}).smallest().to_dict()))
    sizes = ["--calibration-images", "64", "--check-images", "16"]
    assert run(["export", "--subnet", str(subnet), "--out", str(out), *sizes, "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert {model["format"] for model in models} == {"onnx", "tflite"}
    assert all(model["relative_difference"] < 1e-4 and model["same_top1"] == 1.0 for model in models)
    for runtime in ("onnxruntime", "litert"):
        assert run(["verify", "--subnet", str(out / "subnet.json"), "--runtime", runtime, "--max-latency-ms", "1000", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found[-1]["condition"]["runtime"] == runtime and 0 < found[-1]["measured_latency_ms"] < 1000
    assert run(["verify", "--subnet", str(out / "subnet.json"), "--max-latency-ms", "0.000001"]) == 1
    assert "MISSED" in capsys.readouterr().out
    (out / "subnet.onnx").write_bytes(b"something else")
    assert run(["verify", "--subnet", str(out / "subnet.json")]) == 1
    assert "is not the model that was exported" in said(capsys)


@pytest.mark.torch
def test_weights_of_another_space_are_refused_at_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subnet = tmp_path / "colour.json"
    subnet.write_text(json.dumps(search_space(f"{TINY}:image_channels=3").smallest().to_dict()))
    assert run(["export", "--subnet", str(subnet), "--out", str(tmp_path / "e")]) == 1
    assert "no weights come with the package for space 'ofa-mobilenetv3-tiny:image_channels=3'" in said(capsys)
    weights, _ = shipped_weights(TINY) or (tmp_path, "")
    assert run(["export", "--subnet", str(subnet), "--weights", str(weights), "--out", str(tmp_path / "e")]) == 1
    assert "use weights of the subnet's space" in said(capsys)


def test_a_subnet_file_of_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from profiler.subnet import record_of, write_subnet

    path = tmp_path / "subnet.json"
    write_subnet(path, record_of(search_space(TINY).smallest()))
    data = json.loads(path.read_text())
    for changed, expected in (({"version": 99}, "version 99"), ({"speed": 1}, "unknown key 'speed'")):
        path.write_text(json.dumps({**data, **changed}))
        assert run(["predict", "--subnet", str(path)]) == 1
        assert expected in said(capsys)


def test_a_subnet_record_survives_its_file(tmp_path: Path) -> None:
    from profiler.subnet import ExportedModel, Verification, read_subnet, record_of, write_subnet

    record = record_of(search_space(TINY).smallest(), max_latency_ms=1.5, predicted_accuracy=0.7).changed(
        models=(ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0),),
        verifications=(Verification("onnx", CONDITION.to_dict(), 1.0, 1.1, 0.01, 1.5, 20, 200),),
    )
    write_subnet(tmp_path / "subnet.json", record)
    read = read_subnet(tmp_path / "subnet.json")
    assert read == record
    assert read.verifications[0].kept is True
    assert isinstance(read.architecture, Architecture)


def test_json_of_spaces_tells_the_golden_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spaces", "ofa-mobilenetv3-w1.2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["distinct_blocks"] == 1257 and found["networks"] == 25 * 7371**5


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_does_the_whole_job_skips_what_is_done_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "profiler",
        "run",
        "--space",
        TINY,
        "--device",
        "simulated",
        "--resolutions",
        "20",
        "--samples",
        "60",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(8)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = subprocess.run(command, check=False, capture_output=True, text=True)
    assert first.returncode in (0, 1), first.stderr
    record = json.loads((out / "subnet" / "subnet.json").read_text())
    assert {model["format"] for model in record["models"]} == {"onnx", "tflite"}
    assert record["verifications"] and record["measured_accuracy"] is not None
    stages = (out / "stages.json").read_text()
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == first.returncode
    assert (out / "stages.json").read_text() == stages
    assert (out / "report.html").stat().st_size > 10_000
    shutil.rmtree(out)


def test_a_table_of_some_resolutions_is_searched_and_fitted_at_those(table: Path, ridge: Path, tmp_path: Path) -> None:
    budget_ms = max(network.latency_ms for network in LatencyTable.open(table).networks())
    arguments = ["--max-latency-ms", str(budget_ms), "--generations", "3", "--out", str(tmp_path / "subnet.json")]
    assert run(["search", "--table", str(table), "--accuracy", str(ridge), *arguments]) == 0
    assert json.loads((tmp_path / "subnet.json").read_text())["architecture"]["values"]["resolution"] == 20
    assert run(["fit", "latency", "--table", str(table), "--out", str(tmp_path / "latency")]) == 0
    assert run(["search", "--latency", str(tmp_path / "latency"), "--accuracy", str(ridge), *arguments]) == 0


def test_collecting_into_an_imported_table_is_refused_in_one_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = tmp_path / "again.lut"
    assert run(["table", "export", str(table), "--out", str(tmp_path / "table.csv")]) == 0
    assert run(["table", "import", str(tmp_path / "table.csv"), "--out", str(again)]) == 0
    before = again.read_bytes()
    capsys.readouterr()
    assert run([*COLLECT, "--out", str(again)]) == 1
    assert "was merged or imported and has no plan to go on with; collect into another file" in said(capsys)
    assert again.read_bytes() == before


def test_fitting_says_what_is_missing_for_a_surer_error() -> None:
    from profiler.latency_fitting import Fitted

    assert Fitted("terms", {}, 0.5, 0, ()).sentences() == []
    assert Fitted("terms", {}, None, 2, ()).sentences() == []
    assert Fitted("terms", {}, 1.25, 30, ("gradient_boosting",)).sentences() == [
        "gradient_boosting is left out: its package is not installed",
        "the mean error of terms is known to 1.2 points; 30 more calibration networks would bring that to half a point",
    ]


def test_more_rounds_add_to_a_finished_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "growing.lut"
    assert run([*COLLECT, "--rounds", "1", "--out", str(out)]) == 0
    before = visits_of(out)
    capsys.readouterr()
    assert run([*COLLECT, "--rounds", "2", "--out", str(out)]) == 0
    assert "were there before" in said(capsys)
    after = visits_of(out)
    assert before.items() <= after.items()
    first, second = ({name.partition(".")[2] for name in after if name.startswith(f"{number}.")} for number in (0, 1))
    assert first == second  # whatever round 1 held before, it holds everything now


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path) -> None:
    arguments = ["train", "--space", TINY, "--out", str(tmp_path / "t")]
    program = f"import sys; sys.modules['torch'] = None; from profiler.cli.main import main; main({arguments})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "needs the package 'torch'" in ended.stderr and "elastic-latency[train]" in ended.stderr


@pytest.mark.torch
def test_an_accuracy_measured_with_other_weights_is_not_carried_over(tmp_path: Path) -> None:
    from profiler.subnet import read_subnet, record_of, write_subnet

    subnet = tmp_path / "subnet.json"
    record = record_of(search_space(TINY).restrict({"resolution": [20]}).smallest())
    write_subnet(subnet, record.changed(measured_accuracy=0.99, measured_accuracy_images=5, weights_sha256="0" * 64))
    sizes = ["--calibration-images", "64", "--check-images", "16", "--formats", "onnx"]
    assert run(["export", "--subnet", str(subnet), "--out", str(tmp_path / "e"), *sizes]) == 0
    assert read_subnet(tmp_path / "e" / "subnet.json").measured_accuracy is None
