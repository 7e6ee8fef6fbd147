"""What a measurement store holds, as its users see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supernets.blocks import BlockSpec

KINDS = ("block", "network")

State = Mapping[str, Any]  # of the device: the names of schema.STATE_FIELDS → value, None or absent where unknown


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a block or a whole network, described by `spec`; `role` says what for.

    Raises:
        ValueError: the kind is neither block nor network.
    """

    key: str
    kind: str
    role: str
    spec: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind of subject {self.key!r} is {self.kind!r}; expected 'block' or 'network'")

    @classmethod
    def of_block(cls, block: BlockSpec) -> Subject:
        """Return the block as a subject, by its shapes alone: one may stand at many places."""
        return cls(block.key, "block", "", {field: value for field, value in block.to_dict().items() if field != "name"})


@dataclass(frozen=True, slots=True)
class VisitRecord:
    """When and how a visit was made; `number` orders the visits of a store by time, whatever the device's clock says.

    Each sample is the time of one call, in which every subject ran `repeats` times.
    """

    number: int
    plan_id: str
    mode: str
    round: int
    worker: str
    discarded: str | None
    state_before: State
    state_after: State
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why measuring a subject ended: the rule, the 95 % interval as a share of the latency (None if unknown), and after how many visits."""

    key: str
    mode: str
    stopped_by: str
    relative_interval: float | None
    visits: int


@dataclass(frozen=True, slots=True)
class StoredWarning:
    """Why not to trust the measurements: a code, the numbers behind it, and a sentence of what to do."""

    code: str
    numbers: Mapping[str, Any]
    text: str
    unix_time_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A subject's latency without samples in this store: how far off it may be (None if unknown), and what it rests on.

    `origin` is one of luts.table.ORIGINS; `visits` and `samples` are what another tool's figure was made from.

    Raises:
        ValueError: a latency that is not positive and finite.
    """

    key: str
    mode: str
    latency_ns: float
    relative_error: float | None
    source: Mapping[str, Any]
    origin: str = "interpolated"
    visits: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.latency_ns < math.inf:
            raise ValueError(f"{self.origin} latency of {self.key!r} is {self.latency_ns} ns; expected more than 0")
