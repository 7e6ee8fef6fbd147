"""Trust checks of a collected table: each a sentence with its numbers; the ones that are warnings say what to do."""

from __future__ import annotations

from dataclasses import dataclass

from luts.store import MeasurementStore
from luts.table import MODES
from profiler.measuring.quality import SessionQuality, session_quality

# A table whose figures repeat worse than this cannot promise predictions within a few percent.
WORST_REPEATABILITY = 0.02
# Above this share of slow visits even a low percentile may not have met the machine's fast state.
MOST_SLOW = 0.8
FEWEST_VISITS = 8


@dataclass(frozen=True)
class TrustCheck:
    """One check: passed or not, and the sentence to show."""

    passed: bool
    text: str


def trust_checks(store: MeasurementStore) -> list[TrustCheck]:
    """Return the checks of everything measured into a store."""
    found = [session_quality(store, "block", mode) for mode in MODES] + [session_quality(store, "network", "network")]
    return [check for quality in found if quality is not None for check in _checks(quality)]


def _checks(quality: SessionQuality) -> list[TrustCheck]:
    what = f"{quality.subjects} whole networks" if quality.kind == "network" else f"{quality.subjects} blocks measured {_mode(quality.mode)}"
    checks = [
        TrustCheck(quality.fewest_visits >= FEWEST_VISITS, f"{what}: at least {quality.fewest_visits} visits each")
        if quality.fewest_visits >= FEWEST_VISITS
        else TrustCheck(False, f"{what}: only {quality.fewest_visits} visits of some, expected {FEWEST_VISITS}; collect on with a larger --rounds")
    ]
    if quality.repeatability is not None:
        text = f"{what}: two halves of the visits differ by {quality.repeatability:.1%} (median)"
        passed = quality.repeatability <= WORST_REPEATABILITY
        checks.append(
            TrustCheck(
                passed,
                text if passed else f"{text}, expected {WORST_REPEATABILITY:.0%}; stop other work on the device, and collect into another file",
            )
        )
    slow = f"{what}: {quality.slow_share:.0%} of the visits met the device in a slow state"
    checks.append(
        TrustCheck(True, slow)
        if quality.slow_share <= MOST_SLOW
        else TrustCheck(False, f"{slow}; stop other work on the device, and collect into another file")
    )
    if quality.unsteady_subjects:
        checks.append(
            TrustCheck(
                False, f"{what}: the figures of {quality.unsteady_subjects} are unsteady (standard error over 5 %); collect on with a larger --rounds"
            )
        )
    if quality.discarded_visits:
        checks.append(TrustCheck(False, f"{what}: {quality.discarded_visits} visits were made again because the device was throttled; cool it"))
    return checks


def _mode(mode: str) -> str:
    return "in chains" if mode == "chain" else mode
