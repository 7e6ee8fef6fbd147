"""What is measured in which order: the same plan, with the same ids, for the same space, settings and seed.

So a killed measurement goes on where it was. Ids do not depend on the number of rounds: further rounds, of all or of
some, can be added later.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from luts.drift import FEWEST_ANCHOR_VISITS
from profiler.measuring.settings import ProtocolSettings
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import covering_architectures
from supernets.space import Architecture, SearchSpace

ALONE, CHAIN, NETWORK = "alone", "chain", "network"  # modes of a visit
ANCHOR = "anchor"  # one block alone, visited again and again: it shows the device's drift
CALIBRATION, HELD_OUT = "calibration", "held_out"  # roles of a plan's networks
POOL_A_NETWORK = 64  # random architectures looked through for each network, to find one of its resolution


@dataclass(frozen=True)
class NetworkItem:
    """A whole network to measure: its blocks, what it is measured for, and its file, made from the blocks where None."""

    name: str
    blocks: tuple[BlockSpec, ...]
    architecture: Architecture | None
    role: str
    model: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.name or not self.role or not self.blocks:
            raise ValueError(
                f"network {self.name!r} has role {self.role!r} and {len(self.blocks)} blocks; expected a name, a role and at least one block"
            )

    def key(self, session: str = "") -> str:
        """Return the identity of its measurements: equal items of one session are one."""
        model = None if self.model is None else hashlib.sha256(self.model).hexdigest()
        return f"network-{self.role}-{_digest([self.name, [block.key for block in self.blocks], model, session])}"


@dataclass(frozen=True)
class PlannedVisit:
    """One visit: `subjects` (keys) run one after another, `cycles` times round after the warm-up."""

    id: str
    mode: str
    subjects: tuple[str, ...]
    cycles: int
    warmup_cycles: int
    min_call_ns: int = 0


@dataclass(frozen=True)
class Round:
    """The visits of one fresh worker process, in order."""

    number: int
    worker: int
    visits: tuple[PlannedVisit, ...]


@dataclass(frozen=True)
class Repeated:
    """Something visited several times a round. What has the same place, the number of a chain or a network, is visited by the same worker."""

    mode: str
    subjects: tuple[str, ...]
    place: int
    visits: int
    cycles: int
    warmup_cycles: int
    min_call_ns: int = 0

    def planned(self, round_number: int) -> Iterable[PlannedVisit]:
        """Yield its visits of one round."""
        digest = _digest([self.mode, self.subjects, self.cycles, self.warmup_cycles, self.min_call_ns])
        for visit in range(self.visits):
            yield PlannedVisit(f"{round_number}.{digest}.{visit}", self.mode, self.subjects, self.cycles, self.warmup_cycles, self.min_call_ns)


@dataclass(frozen=True)
class PlanCounts:
    """How much a plan asks for: models made on the host, workers started, models loaded into them, visits, and runs (single
    executions of a block or network, warm-up included)."""

    models: int
    workers: int
    loads: int
    visits: int
    alone_runs: int
    chain_runs: int
    network_runs: int

    def seconds(self, *, make_ms: float = 12.0, start_ms: float = 1500.0, load_ms: float = 10.0, visit_ms: float = 1.5, alone_ms: float = 0.25,
                chain_ms: float = 0.4, network_ms: float = 9.0) -> float:  # fmt: skip
        """Return how long that takes, given the cost of one of each; the defaults are a desktop core's with the ImageNet spaces."""
        costs_ms = (make_ms, start_ms, load_ms, visit_ms, alone_ms, chain_ms, network_ms)
        return float(sum(count * cost_ms for count, cost_ms in zip(astuple(self), costs_ms, strict=True))) / 1000


@dataclass(frozen=True)
class MeasurementPlan:
    """The rounds that everything takes part in, and what their keys stand for; `identity` is what must be equal for one file to hold it.

    `anchor` is the block that shows the drift; None where no block is measured.
    """

    identity: dict[str, Any]
    settings: ProtocolSettings
    seed: int
    blocks: dict[str, BlockSpec]
    networks: dict[str, NetworkItem]
    repeated: tuple[Repeated, ...]
    anchor: str | None = None

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in order."""
        return tuple(part for number in range(self.settings.rounds) for part in self.round_of(number, self.repeated))

    def round_of(self, number: int, chosen: Sequence[Repeated]) -> tuple[Round, ...]:
        """Return the round of this number with only these in it, one part a worker.

        Who shares a worker changes from round to round: what workers differ by (`luts.drift`) can be told from what their
        subjects differ by only then.
        """
        workers = self._workers(number, chosen)
        return tuple(
            self._part(number, worker, [repeated for repeated, own in zip(chosen, workers, strict=True) if own == worker])
            for worker in sorted(set(workers))
        )

    def _workers(self, number: int, chosen: Sequence[Repeated]) -> list[int]:
        """Return the worker of each, as few as may hold them: chains that are neighbours, and so share models, and any networks."""
        rng = np.random.default_rng([self.seed, number, 0])
        blocks = {key for repeated in chosen if repeated.mode != NETWORK for key in repeated.subjects}
        places = sorted({repeated.place for repeated in chosen if repeated.mode != NETWORK})
        places = np.roll(places, rng.integers(len(places) or 1)).tolist()
        networks = rng.permutation([repeated.place for repeated in chosen if repeated.mode == NETWORK]).tolist()
        for_blocks = min(len(places), math.ceil(len(blocks) / self.settings.models_per_worker))
        for_networks = math.ceil(len(networks) / self.settings.networks_per_worker)
        of_block = {place: at * for_blocks // len(places) for at, place in enumerate(places)}
        of_network = {place: for_blocks + at * for_networks // len(networks) for at, place in enumerate(networks)}
        return [(of_network if repeated.mode == NETWORK else of_block)[repeated.place] for repeated in chosen]

    def _part(self, number: int, worker: int, chosen: Sequence[Repeated]) -> Round:
        visits = [visit for repeated in chosen for visit in repeated.planned(number)]
        order = np.random.default_rng([self.seed, number, worker]).permutation(len(visits))
        return Round(number, worker, tuple(self._with_anchor(number, worker, [visits[i] for i in order])))

    def _with_anchor(self, number: int, worker: int, visits: list[PlannedVisit]) -> Iterable[PlannedVisit]:
        """Yield the visits with one of the anchor before each few of them, and one after the last."""
        if self.anchor is None or not self.settings.anchor_every or not visits:
            yield from visits
            return
        every = max(1, min(self.settings.anchor_every, len(visits) // (FEWEST_ANCHOR_VISITS - 1)))  # few visits must show the drift too
        s = self.settings
        starts = range(0, len(visits), every)
        alike = Repeated(ANCHOR, (self.anchor,), worker, len(starts) + 1, s.alone_runs, s.alone_warmup, s.min_call_ns)
        anchors = [replace(visit, id=f"{visit.id}.{worker}") for visit in alike.planned(number)]
        for anchor, start in zip(anchors, starts, strict=False):
            yield anchor
            yield from visits[start : start + every]
        yield anchors[-1]

    @property
    def visit_count(self) -> int:
        """Number of visits of the rounds that everything takes part in."""
        return sum(len(part.visits) for part in self.rounds)

    def counts(self) -> PlanCounts:
        """Return how much the plan asks of a device."""
        rounds = self.settings.rounds
        anchors = [visit for part in self.rounds for visit in part.visits if visit.mode == ANCHOR]
        loads = {(part.worker, key) for part in self.round_of(0, self.repeated) for visit in part.visits for key in visit.subjects}
        runs = dict.fromkeys((ALONE, CHAIN, NETWORK), 0)
        for repeated in self.repeated:
            runs[repeated.mode] += rounds * repeated.visits * len(repeated.subjects) * (repeated.cycles + repeated.warmup_cycles)
        runs[ALONE] += sum(visit.cycles + visit.warmup_cycles for visit in anchors)
        return PlanCounts(
            models=len({key for _, key in loads}), workers=rounds * len({worker for worker, _ in loads}), loads=rounds * len(loads),
            visits=self.visit_count, alone_runs=runs[ALONE], chain_runs=runs[CHAIN], network_runs=runs[NETWORK],
        )  # fmt: skip


def make_plan(space: SearchSpace, settings: ProtocolSettings, seed: int = 0, architectures: Sequence[Architecture] | None = None,
              in_chains: bool = True) -> MeasurementPlan:  # fmt: skip
    """Return the plan that measures every block of a (restricted) space, or of these architectures of it, alone and in chains, and some networks."""
    run_as_chains = covering_architectures(space) if architectures is None else architectures
    chains = list(dict.fromkeys(tuple(space.blocks(architecture)) for architecture in run_as_chains))
    networks = {item.key(): item for item in plan_networks(space, settings, seed)}
    blocks: dict[str, BlockSpec] = {}
    repeated: list[Repeated] = []
    for place, chain in enumerate(chains):  # chains of one resolution are neighbours
        repeated += [_alone(block.key, place, settings) for block in dict.fromkeys(chain) if block.key not in blocks]
        blocks |= {block.key: blocks.get(block.key, block) for block in chain}
        subjects = tuple(block.key for block in chain)
        if in_chains:
            repeated.append(Repeated(CHAIN, subjects, place, settings.chain_visits, settings.chain_cycles, settings.chain_warmup))
    repeated += [_network(key, place, settings) for place, key in enumerate(networks)]
    identity = {"space": space.name, "restrictions": _restrictions(space), "seed": seed, "settings": settings.to_dict()}
    return MeasurementPlan(identity, settings, seed, blocks, networks, tuple(repeated), anchor_of(blocks))


def network_plan(items: Sequence[NetworkItem], settings: ProtocolSettings, seed: int = 0, session: str = "") -> MeasurementPlan:
    """Return the plan that measures these networks and nothing else, under the networks' part of the settings.

    Raises:
        ValueError: two items are the same.
    """
    networks: dict[str, NetworkItem] = {}
    for item in items:
        key = item.key(session)
        if key in networks:
            raise ValueError(f"network {item.name!r} of role {item.role!r} is given twice; give each another name")
        networks[key] = item
    repeated = tuple(_network(key, place, settings) for place, key in enumerate(networks))
    return MeasurementPlan({}, settings, seed, {}, networks, repeated)


def anchor_of(blocks: Mapping[str, BlockSpec]) -> str:
    """Return the key of the block whose drift stands for all: elastic where there is such a block, and of middling cost."""
    elastic = [key for key, block in blocks.items() if block.operator == "mbconv"] or list(blocks)
    return sorted(elastic, key=lambda key: (block_macs(blocks[key]), key))[len(elastic) // 2]


def _alone(key: str, place: int, settings: ProtocolSettings) -> Repeated:
    return Repeated(ALONE, (key,), place, settings.alone_visits, settings.alone_runs, settings.alone_warmup, settings.min_call_ns)


def _network(key: str, place: int, settings: ProtocolSettings) -> Repeated:
    return Repeated(NETWORK, (key,), place, settings.network_visits, settings.network_runs, settings.network_warmup)


def plan_networks(space: SearchSpace, settings: ProtocolSettings, seed: int) -> list[NetworkItem]:
    """Return a space's calibration and held-out networks: random, all different, each set spread over the resolutions.

    A space with fewer networks gives what it has, shared out in proportion.
    """
    wanted = {CALIBRATION: settings.calibration_networks, HELD_OUT: settings.held_out_networks}
    total = min(sum(wanted.values()), space.size())
    if total < sum(wanted.values()):
        calibration = -(-total * wanted[CALIBRATION] // sum(wanted.values()))
        wanted = {CALIBRATION: calibration, HELD_OUT: total - calibration}
    rng = np.random.default_rng([seed, len(space.choices)])
    pool = space.decode(space.sample_different(POOL_A_NETWORK * total, rng)) if total else []
    items = []
    for role, count in wanted.items():
        for number in range(count):
            share = number / max(1, count - 1) if role == CALIBRATION else (number + 0.5) / count  # calibration reaches both ends
            architecture = _take(pool, _resolution(space, share))
            items.append(NetworkItem(f"{role}-{number:02d}", tuple(space.blocks(architecture)), architecture, role))
    return items


def _resolution(space: SearchSpace, share: float) -> tuple[str, Any] | None:
    """Return the slot of the resolution and the value this far (0 to 1) along its values; None in a space without one."""
    for choice in space.choices:
        if choice.kind == "resolution":
            return choice.name, choice.allowed[round(share * (len(choice.allowed) - 1))]
    return None


def _take(pool: list[Architecture], resolution: tuple[str, Any] | None) -> Architecture:
    """Remove the first architecture of the resolution from the pool, or the first of all where there is none, and return it."""
    matches = (i for i, architecture in enumerate(pool) if resolution is not None and architecture[resolution[0]] == resolution[1])
    return pool.pop(next(matches, 0))


def _restrictions(space: SearchSpace) -> dict[str, list[Any]]:
    return {choice.name: list(choice.allowed) for choice in space.choices if choice.allowed != choice.values}


def _digest(data: Any) -> str:
    return hashlib.blake2b(json.dumps(data, separators=(",", ":")).encode(), digest_size=8).hexdigest()
