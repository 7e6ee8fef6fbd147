"""The `profiler` program as a whole: quick, light, and every command helps."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = (
    "numpy",
    "sqlalchemy",
    "torch",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "sklearn",
    "scipy",
    "xgboost",
    "matplotlib",
    "jinja2",
    "PIL",
    "safetensors",
)
RUN_AND_LIST_IMPORTS = """
import sys
sys.argv = ["profiler", *sys.argv[1:]]
from profiler.cli.main import run
code = run(sys.argv[1:])
print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a child process."""
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_IMPORTS, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def cpu_seconds_of_help() -> float:
    """Return the processor time of `profiler --help`, which other work on the machine does not change much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "profiler", "--help"], cwd=ROOT, capture_output=True, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands() -> list[list[str]]:
    """Return every command as the words that call it."""
    from profiler.cli.app import app

    found: list[list[str]] = [[str(command.name)] for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += [[str(group.name), str(command.name)] for command in group.typer_instance.registered_commands]
    return sorted(found)


def test_help_imports_nothing_heavy() -> None:
    result = run("--help")
    assert result.returncode == 0, result.stderr
    imported = result.stdout.partition("IMPORTED")[2].split()
    assert "typer" in imported
    assert sorted(set(HEAVY) & set(imported)) == []


def test_help_answers_quickly() -> None:
    assert min(cpu_seconds_of_help() for _ in range(3)) < 0.5  # about 0.2 s on a desktop; importing numpy alone would add as much


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_command_helps_without_importing_anything_heavy(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.returncode == 0, result.stderr
    text, _, imported = result.stdout.partition("IMPORTED")
    assert re.search(r"Usage: profiler " + " ".join(command), text)
    assert len(text.splitlines()[2].strip()) > 10, "the command says nothing of what it does"
    assert sorted(set(HEAVY) & set(imported.split())) == []


def test_unknown_command_is_a_usage_error_and_no_traceback() -> None:
    result = run("colect")
    assert result.returncode == 2
    assert "colect" in result.stderr
    assert "Traceback" not in result.stderr
