"""The `profiler` program: its commands, and how a failure becomes one line and an exit code.

0: done. 1: an expected failure, told in one sentence on standard error. 2: the command was typed wrong. 130: stopped by
Ctrl-C; the same command goes on. PROFILER_TRACEBACK=1 shows the traceback of a failure.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import typer

COMMANDS = ("spaces", "devices", "collect", "table", "train", "sample", "fit", "predict", "search", "export", "verify", "report", "run")
GROUPS = ("table", "fit")
# Package → the extra of ours that brings it, for commands that cannot do without.
EXTRAS = {
    "torch": "train", "safetensors": "train", "PIL": "train", "onnx": "onnx", "onnxruntime": "onnx", "ai_edge_litert": "litert",
    "sklearn": "predict", "xgboost": "xgboost", "matplotlib": "report", "jinja2": "report",
}  # fmt: skip
STOPPED = "stopped; collect, train, sample and run go on where they were when they are started again"

app = typer.Typer(
    name="profiler",
    help="Find the image network that keeps a latency budget on a device you own, and prove on the device that it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"profiler (elastic-latency) {version('elastic-latency')}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit.")) -> None:
    """Nothing to do before a command."""


for _name in COMMANDS:
    _module = importlib.import_module(f"profiler.cli.{_name}")
    if _name in GROUPS:
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name)(_module.command)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit; a request to terminate is treated like Ctrl-C, so that workers and temporary files go with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    try:
        result: Any = app(arguments, prog_name="profiler", standalone_mode=False)
        if result == 130:  # newer Typer turns Ctrl-C into this code without a word
            return _say(STOPPED, 130)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _say(STOPPED, 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> int:
    if isinstance(error, typer.Abort):
        return _say(STOPPED, 130)
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # typed wrong: Typer's own classes know how to say it
        error.show()
        return int(error.exit_code)
    if os.environ.get("PROFILER_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    return _say(_sentence(error), 1)


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").partition(".")[0]) in EXTRAS:
        return f"this command needs the package {package!r}, which is not installed; install it with pip install 'elastic-latency[{EXTRAS[package]}]'"
    text = " ".join(str(error).split())
    expected = isinstance(error, (ValueError, LookupError, OSError, ImportError, RuntimeError)) and type(error) not in (KeyError, IndexError)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if not text or not expected:
        text = f"unexpected {type(error).__name__}: {text}; set PROFILER_TRACEBACK=1 and report what it shows"
    return text


def _say(text: str, code: int) -> int:
    print(f"profiler: {text}", file=sys.stderr)
    return code
