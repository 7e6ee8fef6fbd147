"""Whether a visit counts, from the device's state before and after it: one made on a device that was not itself is made again."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

SLOWEST_CLOCK = 0.95  # of the session's own, the median after a visit; before one a core may idle
FEWEST_READINGS = 10  # of the clock, before it judges

THROTTLED = "throttled"  # by its own account: too hot, under-powered, or its clock capped since the session began
TOO_HOT = "too hot"
CLOCKED_LOW = "clocked low"


class Gate:
    """Judges the visits of one session in order of time."""

    def __init__(self, hottest_c: float) -> None:
        self._hottest_c = hottest_c
        self._clocks_khz: list[int] = []

    def reason_against(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
        """Return why a visit between these states does not count; None where it does."""
        if before.get("throttled") or after.get("throttled"):
            return THROTTLED
        if any((state.get("temperature_c") or 0) > self._hottest_c for state in (before, after)):
            return TOO_HOT
        clock_khz = after.get("frequency_khz")
        if clock_khz is None:
            return None
        self._clocks_khz.append(clock_khz)
        own_khz = median(self._clocks_khz)
        return CLOCKED_LOW if len(self._clocks_khz) > FEWEST_READINGS and clock_khz < SLOWEST_CLOCK * own_khz else None
