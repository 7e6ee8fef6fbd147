"""The program around the commands: exit codes, Ctrl-C at any moment, and standard streams of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiler.cli.main import run

ROOT = Path(__file__).parent.parent
TINY = "ofa-mobilenetv3-tiny"
INTERRUPTED_IMPORT = """
import os, signal, sys, time
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
from profiler.cli.main import main
sys.meta_path.insert(0, Interrupting())
main(["spaces"])
"""
INTERRUPTED_DESTRUCTOR = """
import os, signal, sys, time
import profiler.overview
class Trap:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
def endless(name):
    Trap()
    time.sleep(60)
profiler.overview.space_overview = endless
from profiler.cli.main import main
main(["spaces"])
"""
TERMINATED = """
import os, signal, sys, time
import profiler.overview
def endless(name):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
profiler.overview.space_overview = endless
from profiler.cli.main import main
main(["spaces"])
"""


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `profiler` is the program."""
    program = f'profiler() {{ "{sys.executable}" -m profiler "$@"; }}\n'
    return subprocess.run(["bash", "-c", program + line], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("module", ["profiler.cli.app", "typer", "numpy", "rich.table"])
def test_ctrl_c_during_an_import_is_one_sentence_and_130(module: str) -> None:
    result = child(INTERRUPTED_IMPORT, module)
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip().startswith("profiler: stopped") and result.stderr.strip().count("\n") == 0


def test_ctrl_c_swallowed_by_a_destructor_is_raised_again() -> None:
    began = time.monotonic()
    result = child(INTERRUPTED_DESTRUCTOR)
    assert result.returncode == 130, result.stderr
    assert time.monotonic() - began < 50
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


def test_a_request_to_terminate_is_answered_like_ctrl_c() -> None:
    result = child(TERMINATED)
    assert result.returncode == 130
    assert result.stderr.strip().startswith("profiler: stopped")


@pytest.mark.parametrize("command", ["--help", "devices", "spaces --json"])
def test_output_that_nobody_reads_ends_the_program_quietly_as_a_broken_pipe(command: str) -> None:
    result = shell(f"profiler {command} | exec true; echo ${{PIPESTATUS[0]}} >&2")
    assert result.stderr.strip() == "141"


def test_a_closed_standard_error_is_not_an_error_and_changes_no_code() -> None:
    result = shell("profiler devices --json 2>&-")
    assert result.returncode == 0 and json.loads(result.stdout)
    assert shell("profiler spaces nothing 2>&-").returncode == 2


def test_a_closed_standard_output_takes_the_result_silently() -> None:
    result = shell("profiler spaces >&-")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("options", ["", "--json"])
def test_standard_output_that_is_full_is_named(options: str) -> None:
    result = shell(f"profiler devices {options} > /dev/full")
    assert result.returncode == 1
    assert result.stderr == "profiler: standard output: cannot be written: No space left on device\n"


def test_a_table_loses_characters_that_the_terminal_lacks_and_no_more() -> None:
    result = shell("profiler table show luts/data/ofa-mobilenetv3-w1.2-onnxruntime-epyc.lut --limit 1", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii() and "mbconv" in result.stdout and "? %" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["spaces", f"{TINY}:classes=1000000000"], "classes is 1000000000; expected 2 to 100000"),
        (["spaces", f"{TINY}:resolutions=1:1000000000:1"], "expected at most 127, and none above 4096"),
        (["collect", "--space", TINY, "--device", "simulated", "--resolutions", "4:400000:4", "--out", "t.lut"], "expected at most 127"),
        (["sample", "--count", "1000000000", "--out", "a.db"], "--count"),
        (["collect", "--space", TINY, "--batch", "1000000000", "--out", "t.lut"], "--batch"),
        (["collect", "--space", TINY, "--rounds", "1000000000", "--out", "t.lut"], "--rounds"),
        (["verify", "--subnet", "s", "--precision", "int4"], "precision is 'int4'"),
        (["search", "--accuracy", "a", "--table", "t", "--max-latency-ms", "1", "--out", "s.json", "--population", "10000000"], "lower one of them"),
        (["search", "--accuracy", "a", "--table", "t", "--max-latency-ms", "1", "--out", "s.json", "--generations", "9" * 20], "--generations"),
        (["search", "--accuracy", "a", "--table", "t", "--max-latency-ms", "nan", "--out", "s.json"], "--max-latency-ms is nan"),
        (["search", "--accuracy", "a", "--table", "t", "--max-latency-ms", "1", "--out", "s.json", "--strategy", "luck"], "--strategy is 'luck'"),
        (["train", "--space", TINY, "--seed", str(2**32), "--out", "t"], "--seed"),
        (["search", "--accuracy", "a", "--table", "t", "--max-latency-ms", "1", "--out", "folder"], "--out folder is a folder"),
        (["sample", "--out", "folder"], "--out folder is a folder"),
        (["report", "--table", "t", "--out", "folder"], "--out folder is a folder"),
        (["report", "--table", "t", "--out", "file/report.html"], "--out file/report.html cannot be written"),
        (["train", "--space", TINY, "--out", "file"], "--out file cannot be written"),
        (["export", "--subnet", "s", "--out", "file/deep"], "--out file/deep cannot be written"),
        (["run", "--space", TINY, "--out", "file"], "--out file cannot be written"),
        (["run", "--space", TINY, "--out", "r", "--formats", "pth"], "unknown export format 'pth'"),
        (["run", "--space", TINY, "--out", "r", "--train", "--weights", "file"], "one of --weights and --train"),
    ],
)
def test_values_that_no_file_could_make_right_are_refused_at_once_with_2(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error and "unexpected" not in error
    assert sorted(os.listdir()) == ["file", "folder"]


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def greedy(name: str) -> None:
        raise MemoryError("Unable to allocate 7.45 GiB")

    monkeypatch.setattr("profiler.overview.space_overview", greedy)
    assert run(["spaces"]) == 1
    assert capsys.readouterr().err == (
        "profiler: this computer has too little free memory for that (Unable to allocate 7.45 GiB); ask for less at a time, or free some\n"
    )


def test_a_full_disk_is_told_with_the_users_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    out = tmp_path / "report.html"
    table = ROOT / "luts" / "data" / "ofa-mobilenetv3-w1.2-onnxruntime-epyc.lut"
    monkeypatch.setattr("profiler.report.page.report_html", lambda data: "page")
    monkeypatch.setattr("profiler.reporting.report_data", lambda files: None)
    assert run(["report", "--table", str(table), "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"profiler: {out}: cannot be written: No space left on device\n"
    assert list(tmp_path.iterdir()) == []
