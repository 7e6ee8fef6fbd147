"""The wire format between host and worker: one JSON object a line, requests to stdin, one reply each from stdout.

Every request has `request`, every reply has `reply` with the same name, or `error` with `kind` and `message`.
"""

from __future__ import annotations

import json
from typing import Any

# 1: hello, load, run, outputs, quit; samples as lists of integer nanoseconds, one list for each model of the visit.
# 2: hello takes clock_limits_khz, run takes min_call_ns and gives repeats; preflight.
PROTOCOL_VERSION = 2


class WireError(ValueError):
    """A line is not a message of the wire format."""


def encode(message: dict[str, Any]) -> bytes:
    """Return the message as one line.

    Raises:
        ValueError: a number that JSON does not have.
    """
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the message of one line.

    Raises:
        WireError: the line is not a JSON object.
    """
    try:
        message = json.loads(line.decode("ascii"))
    except ValueError as error:
        raise WireError(f"{line[:100]!r} is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError(f"{line[:100]!r} is not a JSON object")
    return message
