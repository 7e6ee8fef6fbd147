"""Everything a measurement can be warned of, as a closed list: a code, one sentence with numbers to fill in, one remedy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Caution(Enum):
    """A warning's code → its sentence and its remedy."""

    DRIFT = (
        "{what} took up to {workers:.1%} longer in some worker processes than in the fastest, and the anchor block up to {drift:.1%} in some of "
        "{rounds} rounds; figures are corrected for what worker processes differ by",
        "let the device rest, stop other work on it, and collect into another file where a percent matters",
    )
    UNCONVERGED = (
        "{subjects} of {of} {what} are not known to {accepted:.0%}, the worst to {worst:.1%} ({rules} ended them)",
        "collect on with --time-budget, or a larger --rounds",
    )
    FEW_VISITS = ("{of} {what}: only {fewest} visits of some, expected {expected}", "collect on with a larger --rounds")
    POOR_REPEATABILITY = (
        "{of} {what}: two halves of the visits differ by {median:.1%} (median), expected {expected:.0%}",
        "stop other work on the device, and collect into another file",
    )
    SLOW_STATE = (
        "{of} {what}: {share:.0%} of the visits met the device in a slow state",
        "stop other work on the device, and collect into another file",
    )
    BIMODAL = (
        "{subjects} of {of} {what} have a second mode of their own, more than {apart:.0%} slower, in {share:.0%} of their runs (median); "
        "figures are those of the fast mode",
        "trust verified networks more than sums of these blocks",
    )
    OUTLIERS = (
        "{of} {what}: {share:.1%} of the runs are outliers, expected {expected:.0%} at most; all are kept, the figures look past them",
        "stop what interrupts the device: other programs, indexing, updates",
    )
    DISCARDED = ("{visits} visits were made again because the device was {reasons}", "cool it, power it well, and leave its clock alone")
    CLOCK_CAPPED = (
        "the clock was capped at {limit_khz} of {maximum_khz} kHz from the start",
        "lift the cap, or keep it on purpose: figures hold for the capped clock",
    )
    SMALL_BLOCKS = (
        "{subjects} of {of} {what} take less than {times} times what timing an empty call does ({floor_ns} ns)",
        "expect a percent or more of timing in their figures",
    )
    BUSY = ("the load was {load:.1f} before half of the visits, on {cpus} processors", "stop other work on the device")
    LOW_MEMORY = ("only {available_mb} MB of memory were left at times", "stop other programs, or measure fewer resolutions at once")
    HOT = ("the processor reached {hottest_c:.0f} °C", "cool the device: hot ones throttle")
    ON_BATTERY = ("the device ran on its battery ({percent} %)", "plug it in: many clock lower on battery")
    UNKNOWN_CLOCK = ("the device does not tell its {unknown}", "fix the clock where you can; drift and throttling may go unseen otherwise")
    CLOCK_STEPPED = ("the device's clock was set back {times} times", "nothing is lost: only the time spent is less certain")
    SIMULATED = ("the device is simulated: its figures come from a formula", "measure on a real device before you decide anything")

    @property
    def code(self) -> str:
        """The name under which it is stored."""
        return self.name.lower()

    def text(self, numbers: Mapping[str, Any], remedy: str | None = None) -> str:
        """Return the warning with its numbers and what to do, which is its own remedy unless another is given."""
        sentence, own = self.value
        return f"{sentence.format(**numbers)}; {remedy or own}"
