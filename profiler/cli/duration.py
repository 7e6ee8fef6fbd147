"""Durations as they are typed: 90s, 10m, 1h."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_duration_s(text: str) -> float:
    """Return the seconds in a duration such as 90s, 10m or 1.5h.

    Raises:
        ValueError: the text is no duration, or one of nothing.
    """
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]+)?)\s*([smh])", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"duration {text!r} is not understood; expected a number above 0, below a million, and s, m or h, such as 90s, 10m or 1.5h")
    return float(found[1]) * SECONDS[found[2]]
