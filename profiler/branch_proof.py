"""Proof on the device that a merged network's latency does not depend on its branches: files merged from other branches, timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from device_agents.base import DeviceAgent
from profiler.measuring.models import weighted_model_maker
from profiler.measuring.plan import NetworkItem
from profiler.signed import signed_percent
from profiler.verifying import measure_items
from supernets.space import Architecture, SearchSpace

KEPT, ALL, AGAIN = "the branches kept", "every branch", "the branches kept, other numbers"


@dataclass(frozen=True)
class BranchTiming:
    """One merged file: how many branches it was merged from, and what it takes; the spread is the standard error over the figure."""

    name: str
    branches: int
    bytes: int
    latency_ms: float
    relative_spread: float | None
    visits: int


@dataclass(frozen=True)
class BranchProof:
    """The timings, the first of them of the branches kept; the last one has as many, with other numbers: what two equal files differ by."""

    timings: tuple[BranchTiming, ...]
    condition: Mapping[str, Any]

    @property
    def ratio(self) -> float:
        """How many times as long as with the branches kept the network takes that was merged from every branch."""
        return self.timings[1].latency_ms / self.timings[0].latency_ms

    @property
    def noise_ratio(self) -> float:
        """The same of the file that differs in its numbers only."""
        return self.timings[-1].latency_ms / self.timings[0].latency_ms

    def sentence(self) -> str:
        """Return what was found, in one sentence."""
        kept, most = self.timings[0], self.timings[1]
        return (
            f"merged from {most.branches} branches {signed_percent(self.ratio - 1)} against {kept.branches} ({kept.latency_ms:.4f} ms); "
            f"the same branches with other numbers {signed_percent(self.noise_ratio - 1)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as a JSON-serialisable mapping."""
        return {"timings": [asdict(timing) for timing in self.timings], "condition": dict(self.condition)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BranchProof:
        """Return the proof that `to_dict` described."""
        return cls(tuple(BranchTiming(**timing) for timing in data["timings"]), data["condition"])


def prove(space: SearchSpace, architecture: Architecture, agent: DeviceAgent, store: Path, session: str,
          report: Callable[[int, int, str], None]) -> BranchProof:  # fmt: skip
    """Return the timings of networks with random weights, merged from the architecture's branches and from all: one session, interleaved.

    Raises:
        StoreError, DeviceError: see `profiler.measuring.networks.measure_networks`.
    """
    from supernets.networks.branches import kept_branches
    from supernets.networks.merging import merged_pair

    blocks, whole = space.blocks(architecture), space.architecture({**space.largest().values, "resolution": architecture["resolution"]})
    sets = {KEPT: kept_branches(blocks, architecture), ALL: kept_branches(blocks, whole)}
    pair, (again, _) = merged_pair(blocks, sets[KEPT], sets[ALL]), merged_pair(blocks, sets[KEPT], sets[ALL], seed=1)
    info = agent.info()
    write = weighted_model_maker(agent.model_format, info.batch, info.precision)
    models = {name: write(blocks, weights) for name, weights in zip((KEPT, ALL, AGAIN), (*pair, again), strict=True)}
    items = [NetworkItem(f"branches-{number}", tuple(blocks), architecture, "branches", model) for number, model in enumerate(models.values())]
    made = measure_items(agent, store, items, session, report)
    timings = tuple(
        BranchTiming(name, sum(map(len, sets.get(name, sets[KEPT]).values())), len(model), found.latency_ms, found.relative_spread, found.visits)
        for (name, model), found in zip(models.items(), made.measurements, strict=True)
    )
    return BranchProof(timings, made.condition)
