"""The `profiler` program from its first moment to its exit code; how a failure becomes one sentence.

Nothing of weight is imported before Ctrl-C is answered. PROFILER_TRACEBACK=1 shows the traceback of a failure.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from profiler.cli import streams

# The one rule of exit codes. An expected failure is told in one sentence on standard error.
DONE = 0
FAILED = 1  # the work failed: a file is absent or damaged, the device does not answer, nothing keeps the budget
MISTYPED = 2  # the command was typed wrong: an option, or a value that no file could make right
STOPPED = 130  # by Ctrl-C or a request to terminate
UNREAD = 141  # who read the output stopped reading, as `head` does

# Package → the extra of ours that brings it, for commands that cannot do without.
EXTRAS = {
    "torch": "train", "safetensors": "train", "PIL": "train", "onnx": "onnx", "onnxruntime": "onnx", "ai_edge_litert": "litert",
    "sklearn": "predict", "xgboost": "xgboost", "matplotlib": "report", "jinja2": "report",
}  # fmt: skip
STOPPED_TEXT = "stopped; collect, train, finetune, sample and run go on where they were when they are started again"
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # of the same effect, so that workers and temporary files go with a program that is ended
AGAIN_S = 0.01


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit."""
    code = STOPPED
    try:
        _listen()
        streams.prepare()
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        _say(STOPPED_TEXT, STOPPED)
    finally:
        _stop_listening()
    streams.drop_output()
    sys.exit(code)


def _listen() -> None:
    """Let each signal that is not ignored raise KeyboardInterrupt: once more where a destructor or callback swallowed it."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = _raise_again


def _raise_again(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(unraisable)


def _stop_listening() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        from profiler.cli.app import app

        result: Any = app(arguments, prog_name="profiler", standalone_mode=False)
        streams.put("", end="")
        code = result if isinstance(result, int) else DONE
        return _say(STOPPED_TEXT, STOPPED) if code == STOPPED else code  # Typer turns Ctrl-C into this code without a word
    except KeyboardInterrupt:
        return _say(STOPPED_TEXT, STOPPED)
    except (Exception, SystemExit) as error:  # Typer exits when a pipe breaks, whichever it is
        return UNREAD if streams.unread() else _failure(error, arguments)


def _failure(error: BaseException, arguments: list[str]) -> int:
    if isinstance(error, SystemExit):
        error = error.__context__ or error
    if _caused_by_interrupt(error):
        return _say(STOPPED_TEXT, STOPPED)
    if (wrong_value := _wrong_value(error, arguments)) is not None:
        _say(wrong_value, MISTYPED)
    elif hasattr(error, "show"):  # typed wrong: Typer's own classes know how to say it
        error.show()
    else:
        if os.environ.get("PROFILER_TRACEBACK"):
            import traceback

            traceback.print_exception(error)
        _say(_sentence(error), FAILED)
    return int(getattr(error, "exit_code", FAILED))


def _wrong_value(error: Any, arguments: list[str]) -> str | None:
    """Return the sentence about an option's value that is no such number, or out of its range: what Typer says of it lacks the value."""
    command, text = getattr(getattr(error, "ctx", None), "command_path", ""), getattr(error, "message", "")
    for option in getattr(getattr(error, "param", None), "opts", ()):
        for place, argument in enumerate(arguments):
            name, equals, value = argument.partition("=")
            if name == option and text and (equals or place + 1 < len(arguments)):
                expected = text.removeprefix("Input should be ").partition(",")[0].rstrip(".")
                kind = "" if expected.startswith("a ") else "a number "
                told = f"; expected {kind}{expected}" if text.startswith("Input should be ") else f": {expected}"
                return f"{option} is {(value if equals else arguments[place + 1])!r}{told}; `{command} --help` tells the limits"
    return None


def _caused_by_interrupt(error: BaseException | None) -> bool:
    """Return whether an error arose from Ctrl-C, as when a library's import makes an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _sentence(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").partition(".")[0]) in EXTRAS:
        return f"this command needs the package {package!r}, which is not installed; install it with pip install 'elastic-latency[{EXTRAS[package]}]'"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"this computer has too little free memory for that{f' ({text})' if text else ''}; ask for less at a time, or free some"
    expected = isinstance(error, (ValueError, LookupError, OSError, ImportError, RuntimeError))
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if not text or not expected or type(error) in (KeyError, IndexError, RecursionError):
        text = f"unexpected {type(error).__name__}: {text}; set PROFILER_TRACEBACK=1 and report what it shows"
    return text


def _say(text: str, code: int) -> int:
    streams.say(f"profiler: {text}")
    return code
