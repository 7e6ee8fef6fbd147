"""JSON from files that anybody may have written: what is not plain JSON of finite numbers is a ValueError, whatever it is."""

from __future__ import annotations

import json
import math
from typing import Any


def parse(content: bytes) -> Any:
    """Return what JSON text in UTF-8 says.

    Raises:
        ValueError: it is no UTF-8, no JSON, nested too deep, or has a number that is not finite.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
