"""Wrong uses of the commands around the four systems: each is refused in one sentence before any work is done, and nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler.cli.main import run

TINY = "ofa-mobilenetv3-tiny"
SEARCH = ["search", "--table", "a.lut", "--accuracy", "p", "--max-latency-ms", "1", "--out", "s.json"]
RUN = ["run", "--device", "simulated", "--out", "r"]


def refusal(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command typed wrong ends with, after it left an empty folder empty."""
    monkeypatch.chdir(folder)
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("profiler: ") and error.count("\n") == 1, error
    assert list(folder.iterdir()) == []
    return error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--space", TINY, "--out", "t", "--threads", "0"], "--threads is '0'; expected a number greater than or equal to 1"),
        (["train", "--space", TINY, "--out", "t", "--threads=abc"], "--threads is 'abc'; expected a valid integer"),
        (["sample", "--out", "a.db", "--workers", "9999"], "--workers is '9999'; expected a number less than or equal to 1024"),
        (["finetune", "--subnet", "s.json", "--out", "t", "--epochs", "nan"], "--epochs is 'nan'; expected a number greater than"),
        (["search", *SEARCH[1:6], "fast", "--out", "s.json"], "--max-latency-ms is 'fast'; expected a valid number"),
    ],
)
def test_a_number_that_is_none_or_out_of_range_is_told_with_its_value(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(arguments, tmp_path, monkeypatch, capsys)
    assert expected in error and f"`profiler {arguments[0]} --help`" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sample", "--images", "", "--out", "a.db"], "--images '' names no images"),
        (["train", "--space", TINY, "--images", ":side=32", "--out", "t"], "--images ':side=32' names no images"),
        ([*RUN, "--images", ""], "--images '' names no images"),
        ([*SEARCH, "--resolutions", "-20"], "has a side of -20 pixels; expected positive ones"),
        ([*SEARCH, "--device", "pixel99"], "unknown device 'pixel99'"),
        ([*SEARCH, "--device", "local,simulated"], "names 2 devices"),
        ([*SEARCH, "--devices", "mine.toml"], "--devices mine.toml is for measuring the finalists"),
        (["fit", "accuracy", "--samples", "a.db", "--models", "ridge,forest", "--out", "p"], "has the unknown 'forest'; expected some of mlp, ridge"),
        (["fit", "accuracy", "--samples", "a.db", "--models", ",", "--out", "p"], "names none; expected some of mlp, ridge"),
        (["verify", "--subnet", "s.json", "--table", "a.lut", "--latency", "p"], "were both given to predict from"),
        ([*RUN, "--runtimes", "onnxruntime,litert,onnxruntime"], "names onnxruntime twice"),
        ([*RUN, "--recipe", "small", "--weights", "w"], "as weights are given; give --train in place of --weights, or leave --recipe out"),
        ([*RUN, "--recipe", "small"], "as weights come with the package; add --train, or leave --recipe out"),
        ([*RUN, "--system", "mnasnet", "--space", "mnasnet"], "system 'mnasnet' trains networks of space 'mnasnet', and no images come with"),
        ([*RUN, "--weights", "w", "--space", "ofa-resnet50-tiny"], "weights w are judged on images, and no images come with"),
        ([*RUN, "--space", "ofa-resnet50-tiny"], "no weights come with space 'ofa-resnet50-tiny'"),
        (["train", "--space", TINY, "--out", "/proc/t"], "--out /proc/t cannot be written: nothing can be made in /proc"),
    ],
)
def test_an_option_that_no_file_makes_right_is_refused(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refusal(arguments, tmp_path, monkeypatch, capsys)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("space", "recipe", "expected"),
    [
        ("bignas-tiny", "small", "expected one of bignas, bignas-paper, bignas-small"),
        ("repnas-tiny", "bignas-small", "expected one of repnas-paper, repnas-release, repnas-small"),
        ("mnasnet-tiny", "repnas-small", "expected one of bignas, bignas-paper, bignas-small"),
        ("ofa-resnet50-tiny", "small", "expected one of imagenet-resnet, small-resnet, small-resnet-long, bignas"),
        (TINY, "small-resnet", "expected one of imagenet, small, small-long, cifar, bignas"),
    ],
)
def test_a_recipe_of_another_kind_of_space_is_refused_with_those_that_fit(
    space: str, recipe: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(["train", "--space", space, "--recipe", recipe, "--out", "t"], tmp_path, monkeypatch, capsys)
    assert f"recipe {recipe!r} is not for space {space!r} (" in error and expected in error


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--system", "repnas", "--space", TINY], f"system 'repnas' cannot choose in space '{TINY}', which has no branches"),
        (["--system", "ofa", "--space", "repnas-tiny"], "cannot choose in space 'repnas-tiny', which has branches"),
        (["--system", "mnasnet", "--space", "repnas-tiny"], "cannot choose in space 'repnas-tiny', which has branches"),
        (["--system", "bignas", "--recipe", "small"], "recipe 'small' is not for space 'bignas-tiny'"),
        (["--system", "bignas", "--recipe", "slow"], "unknown recipe 'slow'"),
        (["--train", "--space", "ofa-resnet50-tiny", "--images", "pets"], "recipe 'small' is not for space 'ofa-resnet50-tiny'"),
        (["--resolutions", "21"], "resolution 21 does not fit space"),
        (["--training-device", "gpu"], "device 'gpu' is unknown to training"),
    ],
)
def test_a_run_whose_options_do_not_match_is_refused_before_it_measures(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refusal([*RUN, *arguments], tmp_path, monkeypatch, capsys)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("system", "package", "extra"), [("ofa", "sklearn", "predict"), ("ofa", "xgboost", "xgboost"), ("bignas", "jinja2", "report")]
)
def test_a_run_that_lacks_a_package_of_a_late_stage_is_refused_before_it_measures(
    system: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    assert run([*RUN, "--system", system]) == 1
    error = capsys.readouterr().err
    assert f"needs the package {package!r}" in error and f"elastic-latency[{extra}]" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["search", "--table", "a.lut", "--max-latency-ms", "1", "--out", "s.json"], ["predict", "--subnet", "s.json"]])
def test_a_folder_of_several_predictors_is_answered_with_their_names(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ridge", "mlp"):
        (tmp_path / "predictors" / name).mkdir(parents=True)
        (tmp_path / "predictors" / name / "predictor.json").write_text("{}")
    assert run([*command, "--accuracy", "predictors"]) == 1
    assert "folder predictors holds the predictors mlp, ridge, each in a folder of its own; give one, as predictors/mlp" in capsys.readouterr().err


def test_names_of_rows_stay_whole_where_a_table_is_squeezed(capsys: pytest.CaptureFixture[str]) -> None:
    from profiler.cli.output import print_table

    print_table("Much", ("name", *[f"column {i}" for i in range(20)]), [("gradient_boosting", *["1234567"] * 20)])
    assert "gradient_boosting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["verify", "--subnet", "exported"], "exported is a folder; expected a JSON file, such as exported/subnet.json"),
        (["sample", "--weights", "exported", "--out", "a.db"], "exported is a folder; expected a .safetensors file of `profiler train`"),
        (
            ["verify", "--subnet", "half.json"],
            """half.json is damaged: an architecture is {'space': NAME, 'values': {CHOICE: VALUE, …}}, but this one is {"space": "x"}""",
        ),
        (["verify", "--subnet", "null.json"], "null.json is not a subnet file: it holds no JSON object"),
    ],
)
def test_a_file_of_another_kind_is_told_by_what_it_is(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exported").mkdir()
    Path("exported/subnet.json").write_text("{}")
    Path("half.json").write_text('{"space": "x"}')
    Path("null.json").write_text("null")
    assert run(arguments) == 1
    assert expected in capsys.readouterr().err


def test_progress_that_is_read_from_a_file_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from profiler.cli import output

    now_s = 0.0
    monkeypatch.setattr(output, "monotonic", lambda: now_s)
    with output.progress_bar("[1/9] collect") as report:
        for now_s in (1.0, 59.0, 61.0, 62.0, 125.0):
            report(int(now_s), 500, "round 1")
    assert capsys.readouterr().err == "[1/9] collect: 61 of 500, round 1\n[1/9] collect: 125 of 500, round 1\n"
