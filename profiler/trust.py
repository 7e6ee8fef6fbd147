"""Trust checks of what was measured into a store: each a sentence with its numbers; the ones that are warnings say what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from luts.records import Outcome, StoredWarning
from luts.store import MeasurementStore
from profiler.caution import Caution
from profiler.measuring.evidence import Evidence, SeenVisit, SubjectId
from profiler.measuring.modes import MODES_APART, modes_of
from profiler.measuring.outliers import outliers
from profiler.measuring.plan import ALONE, ANCHOR, CHAIN, NETWORK
from profiler.measuring.quality import SessionQuality, session_quality
from profiler.measuring.stopping import ACCEPTED

WHAT = {ALONE: "blocks measured alone", CHAIN: "blocks measured in chains", NETWORK: "whole networks"}

# A table whose figures repeat worse than this cannot promise predictions within a few percent.
WORST_REPEATABILITY = 0.02
# Above this share of slow visits even a low percentile may not have met the machine's fast state.
MOST_SLOW = 0.8
FEWEST_VISITS = 8
TOLERATED_DRIFT, TOLERATED_WORKERS = 0.02, 0.05  # of the anchor between rounds, and between worker processes, which figures are corrected for
MOST_OUTLIERS = 0.03
OWN_MODE = 0.1  # share of runs in a slow mode, beyond what the anchor has of it
TIMER_TIMES = 50  # a call shorter than this many empty ones has 2 % of timing in it
BUSY_LOAD = 0.5  # a processor, besides the measuring itself
LEAST_MEMORY_KB = 256 * 1024
HOT_C = 80.0

# Of networks that were measured for one purpose: nothing is collected there that could go on, or go into another file.
MEASURE_ANEW = "let the device rest, stop other work on it, and measure anew"
OF_COLLECTIONS = {Caution.DRIFT, Caution.UNCONVERGED, Caution.FEW_VISITS, Caution.POOR_REPEATABILITY, Caution.SLOW_STATE, Caution.BIMODAL}

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class TrustCheck:
    """One check: passed or not, the sentence to show, and for a warning its code and numbers."""

    passed: bool
    text: str
    caution: Caution | None = None
    numbers: Numbers = field(default_factory=dict)

    @property
    def told(self) -> str:
        """The sentence, and for a warning its code."""
        return self.text if self.caution is None else f"warning ({self.caution.code}): {self.text}"

    def stored(self, unix_time_s: float) -> StoredWarning:
        """Return the warning as a store keeps it."""
        return StoredWarning("passed" if self.caution is None else self.caution.code, self.numbers, self.text, unix_time_s)


@dataclass(frozen=True)
class Facts:
    """What the checks look at."""

    evidence: Evidence
    outcomes: tuple[Outcome, ...]
    devices: tuple[Numbers, ...]  # what the device said of itself, session by session
    simulated: bool

    @cached_property
    def qualities(self) -> list[SessionQuality]:
        """The quality of each mode that was measured."""
        return [found for mode in WHAT if (found := session_quality(self.evidence, mode)) is not None]

    @property
    def visits(self) -> list[SeenVisit]:
        """The visits that count."""
        return [visit for visit in self.evidence.visits if visit.discarded is None]

    def preflight(self, name: str) -> list[Any]:
        """Return what the sessions' preflights say of this, as far as it is known."""
        found = [device.get("extra", {}).get("preflight", {}).get(name) for device in self.devices]
        return [value for value in found if value is not None]


def trust_checks(store: MeasurementStore, evidence: Evidence | None = None, keys: Set[str] | None = None) -> list[TrustCheck]:
    """Return the checks of everything measured into a store, or of what was measured of the networks of these keys alone.

    `evidence` of the store spares reading it once more.
    """
    remedies = {} if keys is None else dict.fromkeys(OF_COLLECTIONS, MEASURE_ANEW)
    seen, outcomes = evidence or Evidence.of_store(store), store.outcomes()
    if keys is not None:
        seen = _of_subjects(seen, keys)
        outcomes = [outcome for outcome in outcomes if outcome.key in keys]
    condition = store.condition()
    sessions = store.provenance().get("sessions", [])
    facts = Facts(seen, tuple(outcomes), tuple(session["device"] for session in sessions),
                  condition is not None and condition.simulated)  # fmt: skip
    found = [(caution, numbers) for caution, find in CHECKS.items() for numbers in find(facts)]
    warnings = [TrustCheck(False, caution.text(numbers, remedies.get(caution)), caution, numbers) for caution, numbers in found]
    return [*_passed(facts, {(check.caution, check.numbers.get("what")) for check in warnings}), *warnings]


def _of_subjects(evidence: Evidence, keys: Set[str]) -> Evidence:
    found = Evidence()
    for visit in evidence.visits:
        if keys & set(visit.subjects):
            found.add(visit)
    return found


def _passed(facts: Facts, warned: set[tuple[Caution | None, Any]]) -> Iterator[TrustCheck]:
    for quality in facts.qualities:
        what = WHAT[quality.mode]
        if (Caution.FEW_VISITS, what) not in warned:
            yield TrustCheck(True, f"{quality.subjects} {what}: at least {quality.fewest_visits} visits each")
        if (Caution.POOR_REPEATABILITY, what) not in warned and quality.repeatability is not None:
            yield TrustCheck(True, f"{quality.subjects} {what}: two halves of the visits differ by {quality.repeatability:.1%} (median)")
        if (Caution.SLOW_STATE, what) not in warned:
            yield TrustCheck(True, f"{quality.subjects} {what}: {quality.slow_share:.0%} of the visits met the device in a slow state")


def _drift(facts: Facts) -> Iterator[Numbers]:
    anchor = facts.evidence.anchor_levels()
    workers = {what: facts.evidence.drift(mode).largest for mode, what in WHAT.items()}
    drift, (what, largest) = max(anchor.values(), default=1.0) - 1, max(workers.items(), key=lambda pair: pair[1])
    if drift > TOLERATED_DRIFT or largest > TOLERATED_WORKERS:
        yield {"drift": drift, "rounds": len(anchor), "what": what, "workers": largest}


def _unconverged(facts: Facts) -> Iterator[Numbers]:
    for mode, what in WHAT.items():
        own = [outcome for outcome in facts.outcomes if outcome.mode == mode]
        wide = [o for o in own if o.relative_interval is None or o.relative_interval > ACCEPTED]
        if wide:
            worst = max((o.relative_interval for o in wide if o.relative_interval is not None), default=1.0)
            rules = ", ".join(sorted({outcome.stopped_by for outcome in wide}))
            yield {"what": what, "subjects": len(wide), "of": len(own), "accepted": ACCEPTED, "worst": worst, "rules": rules}


def _few_visits(facts: Facts) -> Iterator[Numbers]:
    for quality in facts.qualities:
        if quality.fewest_visits < FEWEST_VISITS:
            yield {"what": WHAT[quality.mode], "of": quality.subjects, "fewest": quality.fewest_visits, "expected": FEWEST_VISITS}


def _poor_repeatability(facts: Facts) -> Iterator[Numbers]:
    for quality in facts.qualities:
        if quality.repeatability is not None and quality.repeatability > WORST_REPEATABILITY:
            yield {"what": WHAT[quality.mode], "of": quality.subjects, "median": quality.repeatability, "expected": WORST_REPEATABILITY}


def _slow_state(facts: Facts) -> Iterator[Numbers]:
    for quality in facts.qualities:
        if quality.slow_share > MOST_SLOW:
            yield {"what": WHAT[quality.mode], "of": quality.subjects, "share": quality.slow_share}


def _bimodal(facts: Facts) -> Iterator[Numbers]:
    evidence = facts.evidence

    def pooled(subject: SubjectId) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.concatenate(evidence.runs_of(subject))

    anchors = [pooled(subject) for subject in evidence.subjects(ANCHOR)]
    ratio = max((modes_of(runs).ratio for runs in anchors), default=1.0)
    common = max((modes_of(runs, ratio).slow_share for runs in anchors), default=0.0)
    for mode, what in WHAT.items():
        subjects = evidence.subjects(mode)
        shares = [modes_of(pooled(subject), ratio).slow_share for subject in subjects]
        own = [share for share in shares if share > common + OWN_MODE]
        if own:
            yield {"what": what, "subjects": len(own), "of": len(subjects), "apart": MODES_APART, "share": float(np.median(own))}


def _outliers(facts: Facts) -> Iterator[Numbers]:
    for mode, what in WHAT.items():
        subjects = facts.evidence.subjects(mode)
        flags = [outliers(np.concatenate(facts.evidence.runs_of(subject))) for subject in subjects]
        share = float(np.mean(np.concatenate(flags))) if flags else 0.0
        if share > MOST_OUTLIERS:
            yield {"what": what, "of": len(subjects), "share": share, "expected": MOST_OUTLIERS}


def _discarded(facts: Facts) -> Iterator[Numbers]:
    reasons = Counter(visit.discarded for visit in facts.evidence.visits if visit.discarded is not None)
    if reasons:
        yield {"visits": sum(reasons.values()), "reasons": ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())}


def _clock_capped(facts: Facts) -> Iterator[Numbers]:
    for limits, maxima in zip(facts.preflight("clock_limits_khz"), facts.preflight("clock_maxima_khz"), strict=False):
        capped = [(limit, most) for limit, most in zip(limits, maxima, strict=True) if limit and most and limit < most]
        if capped:
            yield {"limit_khz": capped[0][0], "maximum_khz": capped[0][1]}
            return


def _small_blocks(facts: Facts) -> Iterator[Numbers]:
    floor_ns = max(facts.preflight("timer_floor_ns"), default=0)
    for mode, what in WHAT.items():
        subjects = facts.evidence.subjects(mode)
        small = [
            key for _, key in subjects
            if min(float(np.min(v.runs_ns[key])) * v.repeats for v in facts.evidence.visits_of((mode, key))) < TIMER_TIMES * floor_ns
        ]  # fmt: skip
        if small:
            yield {"what": what, "subjects": len(small), "of": len(subjects), "times": TIMER_TIMES, "floor_ns": floor_ns}


def _busy(facts: Facts) -> Iterator[Numbers]:
    loads = [load for visit in facts.visits if (load := visit.state_before.get("load_1m")) is not None]
    cpus = next((device["extra"]["logical_cpus"] for device in facts.devices if device.get("extra", {}).get("logical_cpus")), 1)
    threads = max((device.get("threads", 1) for device in facts.devices), default=1)
    if loads and float(np.median(loads)) > threads + BUSY_LOAD * cpus:
        yield {"load": float(np.median(loads)), "cpus": cpus}


def _low_memory(facts: Facts) -> Iterator[Numbers]:
    least_kb = min(_known(facts, "memory_available_kb"), default=LEAST_MEMORY_KB)
    if least_kb < LEAST_MEMORY_KB:
        yield {"available_mb": round(least_kb / 1024)}


def _hot(facts: Facts) -> Iterator[Numbers]:
    hottest_c = max(_known(facts, "temperature_c"), default=0.0)
    if hottest_c >= HOT_C:
        yield {"hottest_c": hottest_c}


def _on_battery(facts: Facts) -> Iterator[Numbers]:
    if "Discharging" in facts.preflight("battery_status"):
        yield {"percent": min(facts.preflight("battery_percent"), default="unknown")}


def _unknown_clock(facts: Facts) -> Iterator[Numbers]:
    governor = any(device.get("governor") is None for device in facts.devices)
    clock = bool(facts.visits) and not _known(facts, "frequency_khz")
    unknown = [name for name, missing in (("governor", governor), ("clock", clock)) if missing]
    if unknown and facts.devices:
        yield {"unknown": " and ".join(unknown)}


def _clock_stepped(facts: Facts) -> Iterator[Numbers]:
    last: dict[str, int] = {}
    times = 0
    for visit in facts.evidence.visits:
        moments = [visit.state_before.get("unix_time_ns"), visit.state_after.get("unix_time_ns")]
        for moment in (moment for moment in moments if moment is not None):
            times += moment < last.get(visit.worker, moment)
            last[visit.worker] = moment
    if times:
        yield {"times": times}


def _simulated(facts: Facts) -> Iterator[Numbers]:
    if facts.simulated:
        yield {}


def _known(facts: Facts, name: str) -> list[Any]:
    return [value for visit in facts.visits for state in (visit.state_before, visit.state_after) if (value := state.get(name)) is not None]


CHECKS: dict[Caution, Callable[[Facts], Iterator[Numbers]]] = {
    Caution.SIMULATED: _simulated, Caution.DRIFT: _drift, Caution.UNCONVERGED: _unconverged, Caution.FEW_VISITS: _few_visits,
    Caution.POOR_REPEATABILITY: _poor_repeatability, Caution.SLOW_STATE: _slow_state, Caution.BIMODAL: _bimodal, Caution.OUTLIERS: _outliers,
    Caution.DISCARDED: _discarded, Caution.CLOCK_CAPPED: _clock_capped, Caution.SMALL_BLOCKS: _small_blocks, Caution.BUSY: _busy,
    Caution.LOW_MEMORY: _low_memory, Caution.HOT: _hot, Caution.ON_BATTERY: _on_battery, Caution.UNKNOWN_CLOCK: _unknown_clock,
    Caution.CLOCK_STEPPED: _clock_stepped,
}  # fmt: skip
