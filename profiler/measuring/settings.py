"""How much is measured: visits, runs and networks, and the presets.

A *visit* is a few runs in a row; a *round* is one fresh worker process (or a few, for very many models) that makes all of
its visits in random order. Many short visits scattered over the session beat one long burst by far, and processes
differ from each other, so each block gets at least 20 visits over five rounds in the full preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class ProtocolSettings:
    """Numbers of the protocol; visits are a round's, for each block, chain or network.

    Everything takes part in `rounds` rounds. Further ones hold only what is not known well enough
    (`profiler.measuring.stopping`): `most_rounds` with the first ones, `time_cap_s` seconds with them, and no more than
    this percentage of the first ones' time. The anchor is visited every `anchor_every` visits
    (0: never). A block alone is repeated inside a timed call until that takes `min_call_us`. Visits above `hottest_c` are
    made again.

    A round of more than `models_per_worker` blocks is cut into several workers, each with about that many models: loaded
    ones take 5 MB each in the ImageNet spaces. Whole networks, 30 MB each there, have workers of their own, as when they
    are measured later: between blocks they would meet other caches.

    Raises:
        ValueError: a number is out of range.
    """

    rounds: int = 5
    most_rounds: int = 20
    time_cap_s: int = 780
    further_time_percent: int = 60
    models_per_worker: int = 400
    networks_per_worker: int = 80
    alone_visits: int = 4
    alone_runs: int = 10
    alone_warmup: int = 2
    chain_visits: int = 5
    chain_cycles: int = 3
    chain_warmup: int = 1
    network_visits: int = 6
    network_runs: int = 6
    network_warmup: int = 2
    calibration_networks: int = 40
    held_out_networks: int = 20
    anchor_every: int = 40
    min_call_us: int = 100
    hottest_c: int = 95

    def __post_init__(self) -> None:
        positive = ("rounds", "models_per_worker", "networks_per_worker", "alone_runs", "chain_cycles", "network_runs")
        for f in fields(self):
            least, value = int(f.name in positive), getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{f.name} is {value!r}; expected a whole number of at least {least}")

    @property
    def min_call_ns(self) -> int:
        """Nanoseconds that a timed call of a block alone takes at least."""
        return 1000 * self.min_call_us

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProtocolSettings:
        """Return the settings that `to_dict` described; fields left out keep their default.

        Raises:
            ValueError: an unknown field, or a number out of range.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"the protocol has no setting {unknown[0]!r}; its settings are {', '.join(f.name for f in fields(cls))}")
        return cls(**values)


# These may be others when a measurement goes on: they decide no visit's id.
LIMITS = ("rounds", "most_rounds", "time_cap_s", "further_time_percent", "hottest_c")

# full: a space of a thousand blocks in about twelve minutes; quick: a tiny space in about one. Blocks of a tiny space take
# microseconds, and a core needs about a millisecond to be warm, so quick runs more cycles.
PRESETS = {
    "full": ProtocolSettings(),
    "quick": ProtocolSettings(most_rounds=8, time_cap_s=120, alone_warmup=4, chain_visits=6, chain_cycles=6, chain_warmup=4, network_visits=8,
                              network_runs=10, network_warmup=4, calibration_networks=10, held_out_networks=10),
}  # fmt: skip


def preset(name: str) -> ProtocolSettings:
    """Return the settings of this preset.

    Raises:
        ValueError: no preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known presets: {', '.join(PRESETS)}")
    return PRESETS[name]
