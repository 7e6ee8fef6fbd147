"""Documents do not rot: the blocks of README.md and docs/ that are marked `<!-- runnable -->` are run, and what they show is what comes.

The convention is told in CONTRIBUTING.md. Blocks of one document run one after another in one empty folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [file for file in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if file.is_file()]
MARK = re.compile(r"<!-- (runnable|runnable: slow|not run: \S.*) -->")
BLOCK_TIMEOUT_S = 240
ONE_STREAM: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


@dataclass(frozen=True)
class Block:
    """A fenced block: its mark (the comment right above it, "" without), language, text and line number."""

    mark: str
    language: str
    text: str
    line: int


def blocks(document: str) -> Iterator[Block]:
    """Yield the fenced blocks of a Markdown document that are commands or Python."""
    lines = document.splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"\s*```(\w*)", lines[number])
        number += 1
        if fence:
            start = number
            while lines[number].strip() != "```":
                number += 1
            above = MARK.fullmatch(lines[start - 2].strip()) if start >= 2 else None
            if fence[1] in ("console", "python"):
                yield Block(above[1] if above else "", fence[1], "\n".join(lines[start:number]), start)
            number += 1


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return (command, lines shown below it) of a console block: a command stands behind `$ ` and goes on after a backslash."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip() and found:
            found[-1][1].append(line)
        continued = line.endswith("\\") and bool(found) and (continued or line.startswith("$ "))
    return found


def assert_shown(shown: list[str], output: str, what: str) -> None:
    """Check that the lines shown come in this order; `...` in a line stands for any text, spaces count once."""
    came = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in shown:
        pattern = re.escape(" ".join(line.split())).replace(re.escape("..."), ".*")
        if not any(re.fullmatch(pattern, other) for other in came):
            raise AssertionError(f"{what}\nshows the line\n{line}\nbut printed\n{output}")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a block: `profiler` and `python` are this tree's, tables have one width."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    for name, arguments in (("python", ""), ("python3", ""), ("profiler", "-m profiler ")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}


def run_block(block: Block, folder: Path) -> None:
    """Run a block in the folder and check what it prints against what it shows."""
    steps = commands(block.text) if block.language == "console" else [(block.text, [])]
    shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "console" else [sys.executable, "-c"]
    for command, shown in steps:
        result = subprocess.run([*shell, command], cwd=folder, env=environment(folder), timeout=BLOCK_TIMEOUT_S, **ONE_STREAM)
        if result.returncode:
            raise AssertionError(f"line {block.line}: {command}\nended with {result.returncode} and printed\n{result.stdout}")
        assert_shown(shown, result.stdout, f"line {block.line}: {command}")


def run_document(text: str, folder: Path, marks: tuple[str, ...]) -> int:
    """Run the document's blocks with these marks; returns how many there are."""
    chosen = [block for block in blocks(text) if block.mark in marks]
    for block in chosen:
        run_block(block, folder)
    return len(chosen)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_runnable_blocks_of_a_document_run_and_print_what_they_show(document: Path, tmp_path: Path) -> None:
    run_document(document.read_text(encoding="utf-8"), tmp_path, ("runnable",))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_all_blocks_of_a_document_run_and_print_what_they_show(document: Path, tmp_path: Path) -> None:
    run_document(document.read_text(encoding="utf-8"), tmp_path, ("runnable", "runnable: slow"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_block_of_commands_is_run_or_says_why_not(document: Path) -> None:
    unmarked = [block.line for block in blocks(document.read_text(encoding="utf-8")) if block.language == "console" and not block.mark]
    assert unmarked == [], f"lines of {document.name} that open a console block without a mark above it"


def test_every_command_is_shown_in_a_document() -> None:
    from profiler.cli.app import COMMANDS

    shown = "\n".join(file.read_text(encoding="utf-8") for file in DOCUMENTS)
    assert [name for name in COMMANDS if not re.search(rf"\bprofiler {name}\b", shown)] == []


# --- the reader itself ------------------------------------------------------------------------------------------------

EXAMPLE = """
<!-- runnable -->
```console
$ echo one   two > file; cat file
one two
$ printf 'a\\nb 12 c\\nd\\n' \\
    | cat
a
b ... c
```

<!-- runnable -->
```python
print(open("file").read())
```

<!-- runnable: slow -->
```console
$ profiler --help > help; python -c 'print(7)'; test -s help
7
```

<!-- not run: needs a network -->
```console
$ false
```

```text
$ false
```
"""


def test_reader_runs_marked_blocks_in_one_folder(tmp_path: Path) -> None:
    assert [block.mark for block in blocks(EXAMPLE)] == ["runnable", "runnable", "runnable: slow", "not run: needs a network"]
    assert run_document(EXAMPLE, tmp_path, ("runnable",)) == 2
    assert run_document(EXAMPLE, tmp_path, ("runnable: slow",)) == 1
    assert (tmp_path / "file").read_text() == "one two\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [("```console\n$ false\n```", "ended with 1"), ("```console\n$ echo 1\n2\n```", "shows the line\n2\nbut printed\n1"),
     ("```console\n$ printf 'a\\nb\\n'\nb\na\n```", "shows the line\na"), ("```python\nraise SystemExit(3)\n```", "ended with 3"),
     ("```console\n$ false | cat\n```", "ended with 1")],
)  # fmt: skip
def test_reader_finds_a_block_that_rotted(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        run_document("<!-- runnable -->\n" + text, tmp_path, ("runnable",))
