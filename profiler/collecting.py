"""Collecting a latency table into a file: the workflow behind `profiler collect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from device_agents.base import DeviceAgent
from luts.store import MeasurementStore, StoreError
from profiler.measuring.collect import CollectSummary, collect
from profiler.measuring.evidence import Evidence
from profiler.measuring.plan import ALONE, CHAIN, NETWORK, MeasurementPlan, make_plan
from profiler.measuring.settings import preset
from profiler.measuring.stopping import BY_TARGET, TARGET
from profiler.measuring.thinned import ThinnedTable, collect_thinned, thinned_table
from profiler.measuring.thinning import thin
from profiler.trust import TrustCheck, trust_checks
from supernets.space import SearchSpace
from supernets.spaces import parse_resolutions
from supernets.spaces import space as search_space

Report = Callable[[int, int, str], None]  # done, of how many, note


@dataclass(frozen=True)
class CollectResult:
    """A collected table: where it is, what it holds, and what this call added."""

    place: str
    space: str
    blocks: int
    networks: int
    summary: CollectSummary
    warnings: tuple[TrustCheck, ...]
    thinned: ThinnedTable | None = None

    def sentence(self) -> str:
        """Return what was done, in one sentence."""
        holds = f"{self.place} holds {self.blocks} blocks and {self.networks} whole networks of {self.space}"
        if self.summary.nothing_to_do:
            return f"nothing to do: {holds}, all {self.summary.skipped_visits} visits of this plan"
        before = f", {self.summary.skipped_visits} were there before" if self.summary.skipped_visits else ""
        left = "" if self.summary.complete else f"; {self.summary.pending_visits} visits are still to make, run the same command again"
        return f"{holds}; {self.summary.measured_visits} visits measured in {self.summary.seconds:.0f} s{before}{left}"

    def ending(self) -> str | None:
        """Return the rule that ended the measurement, in words; None where it is not at its end."""
        rule = self.summary.stopped_by
        if rule == BY_TARGET:
            return f"every figure is known to {TARGET:.0%}"
        return f"not every figure is known to {TARGET:.0%}: ended by {rule}" if rule else None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-serialisable mapping."""
        warnings = [{"code": w.caution.code, "text": w.text, "numbers": dict(w.numbers)} for w in self.warnings if w.caution is not None]
        return {**asdict(replace(self, warnings=())), "warnings": warnings}


def space_to_measure(name: str, resolutions: str | None) -> SearchSpace:
    """Return the space with only these resolutions; ones its table does not list are added where the space can have them.

    Raises:
        UnknownSpaceError, ValueError: no such space, or no such resolutions.
    """
    space = search_space(name)
    listed = next(choice.values for choice in space.choices if choice.name == "resolution")
    if resolutions is None or set(parse_resolutions(resolutions)) <= set(listed):
        return narrowed(space, resolutions)
    wanted = "/".join(map(str, parse_resolutions(resolutions)))
    return search_space(f"{name}{',' if ':' in name else ':'}resolutions={wanted}")


def narrowed(space: SearchSpace, resolutions: str | None) -> SearchSpace:
    """Return the space with only these of its resolutions.

    Raises:
        ValueError: the space lacks one.
    """
    if resolutions is None:
        return space
    sides, own = parse_resolutions(resolutions), next((choice.allowed for choice in space.choices if choice.name == "resolution"), None)
    lacking = [] if own is None else [str(side) for side in sides if side not in own]
    if own is not None and lacking:
        known = "/".join(map(str, own))
        raise ValueError(f"--resolutions {resolutions!r} asks for {'/'.join(lacking)}, which space {space.name!r} lacks; expected some of {known}")
    return space.restrict({"resolution": sides})


def collect_table(space: SearchSpace, agent: DeviceAgent, out: str | Path, preset_name: str, seed: int, report: Report, rounds: int | None = None,
                  time_budget_s: float | None = None, thin_out: bool = False) -> CollectResult:  # fmt: skip
    """Measure what the store at `out` (a file's path, or a URL) still lacks of a space's table; a finished one is left as it is.

    More `rounds`, or a larger time budget than all sessions together spent, go on with it. A table that is to `thin_out`
    measures some resolutions in full, and interpolates the blocks of the others.

    Raises:
        ValueError: an unknown preset.
        StoreError, StoreFullError, DeviceError: see `profiler.measuring.collect.collect`.
    """
    settings = preset(preset_name) if rounds is None else replace(preset(preset_name), rounds=rounds)
    thinning = thin(space, seed) if thin_out else None
    if isinstance(out, Path):
        out.parent.mkdir(parents=True, exist_ok=True)
    with MeasurementStore(out) as store:
        if store.accuracies():
            raise StoreError(f"{store.name} holds sampled accuracies; collect latencies into a file of their own")
        evidence = Evidence.of_store(store)

        def measure(plan: MeasurementPlan, budget_s: float | None) -> CollectSummary:
            return collect(space, agent, store, plan, lambda done, total: report(done, total, ""), time_budget_s=budget_s, evidence=evidence)

        if thinning is None:
            summary = measure(make_plan(space, settings, seed, in_chains=agent.runs_chains), time_budget_s)
        else:
            summary = collect_thinned(thinning, store, settings, seed, measure, time_budget_s, agent.runs_chains)
        found = tuple(check for check in trust_checks(store, evidence) if not check.passed)
        _store_warnings(store, found)
        thinned = thinned_table(store)
    blocks = len({key for mode in (CHAIN, ALONE) for _, key in evidence.subjects(mode)})  # a device that runs no chains has them alone only
    networks = len(evidence.subjects(NETWORK))
    return CollectResult(store.name, space.name, blocks, networks, summary, found, thinned)


def _store_warnings(store: MeasurementStore, found: Sequence[TrustCheck]) -> None:
    """Keep the warnings with the measurements, unless they are there already."""
    if [warning.text for warning in store.warnings()] != [check.text for check in found]:
        store.set_warnings([check.stored(time.time()) for check in found])
