"""The condition measurements were made under; figures of different conditions are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SIMULATED_DEVICE = "simulated"  # the device whose figures come from a formula; they never count as measured


@dataclass(frozen=True)
class Condition:
    """Device, runtime and settings that decide a latency.

    Raises:
        ValueError: a field is out of range.
    """

    device: str
    runtime: str
    runtime_version: str
    delegate: str
    threads: int
    cores: tuple[int, ...]
    batch: int
    precision: str
    cpu_model: str

    def __post_init__(self) -> None:
        if not self.device or not self.runtime:
            raise ValueError(f"device is {self.device!r} and runtime is {self.runtime!r}; expected a name for each")
        for name in ("threads", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        object.__setattr__(self, "cores", tuple(int(core) for core in self.cores))

    @property
    def simulated(self) -> bool:
        """Whether the figures come from the simulated device."""
        return self.device == SIMULATED_DEVICE

    @property
    def origin(self) -> str:
        """What a figure of the device is called: measured or simulated."""
        return "simulated" if self.simulated else "measured"

    def differences(self, other: Condition) -> dict[str, tuple[Any, Any]]:
        """Return field → (own value, the other's value) of the fields that differ."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def differences_in_words(self, other: Condition) -> str:
        """Return the fields that differ, with the own value (there) and the other's (here), for the text of an error."""
        return "; ".join(f"{name} {own!r} there, {others!r} here" for name, (own, others) in self.differences(other).items())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {**asdict(self), "cores": list(self.cores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Condition:
        """Return the condition that `to_dict` described.

        Raises:
            ValueError: a field is unknown, missing or out of range.
        """
        names = [f.name for f in fields(cls)]
        strange = sorted(set(values) ^ set(names))
        if strange:
            raise ValueError(f"field {strange[0]!r} of a condition is unknown or missing; its fields are {', '.join(names)}")
        return cls(**{**values, "cores": tuple(values["cores"])})
