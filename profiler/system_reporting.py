"""What a run's own facts and its proof of merged latencies add to the data of a report page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.branch_proof import BranchProof
from profiler.files import read_json
from profiler.report.system import BlockBranches, MergedTiming, SystemFacts
from profiler.subnet import SubnetRecord
from supernets.space import SearchSpace
from supernets.spaces.repnas import KXK, branches

SEARCHED = ("accuracy-latency", "history")  # sections that only a search fills
LABELS = {
    "space": "Space", "recipe": "Recipe", "weights_from": "Weights", "images": "Images", "accuracy": "Accuracies", "objective": "Objective",
    "strategy": "Strategy",
}  # fmt: skip


def system_facts(known: Mapping[str, Any], space: SearchSpace | None, record: SubnetRecord | None, proof: Path | None) -> SystemFacts | None:
    """Return what a run's facts say of its system; None where they say none, as in folders of older versions."""
    if "title" not in known:
        return None
    rows = [(label, str(known[name])) for name, label in LABELS.items() if known.get(name)]
    search = {} if record is None else record.search or {}
    if "evaluations" in search:
        rows.append(("Networks scored", f"{search['evaluations']:,}"))
    if search.get("objective", "budget") != "budget":
        rows.append(("Target", f"{search['latency_ms']:.4g} ms"))
    timings = () if proof is None else BranchProof.from_dict(read_json(proof)).timings
    merged = tuple(MergedTiming(t.name, t.branches, t.latency_ms, t.relative_spread, t.visits) for t in timings)
    kept = () if space is None or record is None else kept_by_block(space, record)
    return SystemFacts(str(known["title"]), tuple(rows), kept, merged)


def kept_by_block(space: SearchSpace, record: SubnetRecord) -> tuple[BlockBranches, ...]:
    """Return the branches of each block that has a choice for each of them."""
    values = record.architecture.values
    found = []
    for block in space.blocks(record.architecture):
        possible = tuple(branch for branch in branches(block) if f"{block.name}.{branch}" in values)
        if possible:
            kept = tuple(branch for branch in possible if values[f"{block.name}.{branch}"])
            found.append(BlockBranches(block.name, kept or (KXK,), possible))
    return tuple(found)


def left_out_sections(known: Mapping[str, Any], space: SearchSpace | None) -> frozenset[str]:
    """Return the sections that a run of this system, or a table of this space, never has."""
    sides = () if space is None else next((choice.allowed for choice in space.choices if choice.name == "resolution"), ())
    one_side = ("staircase",) if len(sides) == 1 else ()
    if "system" not in known:
        return frozenset((*one_side, "system"))
    predicted = () if known.get("accuracy_predictor") else ("accuracy-predictors",)
    return frozenset((*one_side, *predicted, *(() if known.get("strategy") else SEARCHED)))
