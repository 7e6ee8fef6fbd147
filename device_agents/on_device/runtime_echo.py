"""A runtime that runs nothing: for checking a worker where no runtime is installed, and for the cost of timing itself."""

from __future__ import annotations

from typing import Any

from .runtimes import ModelFormat, Session


class EchoRuntime:
    """Takes any file as a model of one input of shape (1,) whose output is its input; needs only the standard library."""

    model_format: ModelFormat = "onnx"
    name = "echo"
    package = ""
    version = "1"
    delegate = "none"

    def __init__(self, threads: int) -> None:
        pass

    def load(self, path: str) -> Session:
        """Return a session whose runs do nothing; the file must be readable."""
        with open(path, "rb"):
            return Session(_nothing, _echo, [[1]], ["float32"], self.delegate)


def _nothing() -> None:
    pass


def _echo(batch: Any) -> Any:
    return batch
