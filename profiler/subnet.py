"""The subnet file: one chosen architecture with everything known about it, and where each number comes from.

`profiler search` writes it, `export` puts models beside it, `verify` adds what the device says. JSON, version inside.
Latencies in milliseconds, accuracies as fractions of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from luts.condition import Condition
from profiler.files import read_json, write_json
from supernets import counts
from supernets.space import Architecture, SearchSpace
from supernets.spaces import space as search_space

FORMAT = "elastic-latency subnet"
# 1: first version.
VERSION = 1


class SubnetFileError(ValueError):
    """A file that is not a subnet file, or one of a newer version."""


@dataclass(frozen=True)
class ExportedModel:
    """One model file beside the subnet file, and how far it is from the network it was made of.

    `relative_difference` is the largest difference of an output from the supernet's own child, over the largest output;
    `same_top1` the share of the check images with the same best class.
    """

    format: str
    file: str
    sha256: str
    bytes: int
    check_images: int
    relative_difference: float
    same_top1: float

    def __post_init__(self) -> None:
        if not self.file or Path(self.file).name != self.file:
            raise SubnetFileError(f"model file {self.file!r} is not a name in the subnet file's own folder; export the subnet again")


@dataclass(frozen=True)
class Verification:
    """What the device says of one model file."""

    format: str
    condition: Mapping[str, Any]
    predicted_latency_ms: float | None
    measured_latency_ms: float
    relative_spread: float | None  # standard error over the figure; None where one visit tells none
    max_latency_ms: float | None
    visits: int
    samples: int

    @property
    def origin(self) -> str:
        """What the latency is called: measured or simulated."""
        return Condition.from_dict(self.condition).origin

    @property
    def kept(self) -> bool | None:
        """Whether the measured latency is within the budget; None without one."""
        return None if self.max_latency_ms is None else self.measured_latency_ms <= self.max_latency_ms


@dataclass(frozen=True)
class SubnetRecord:
    """One architecture with its costs; None where something was not predicted, measured or exported yet."""

    architecture: Architecture
    macs: int
    parameters: int
    max_latency_ms: float | None = None
    predicted_latency_ms: float | None = None
    measured_latency_ms: float | None = None
    predicted_accuracy: float | None = None
    measured_accuracy: float | None = None
    measured_accuracy_images: int | None = None
    weights_sha256: str | None = None
    condition: Mapping[str, Any] | None = None
    search: Mapping[str, Any] | None = None
    finalists: tuple[Mapping[str, Any], ...] = ()
    models: tuple[ExportedModel, ...] = ()
    verifications: tuple[Verification, ...] = ()

    @property
    def space(self) -> SearchSpace:
        """The search space of the architecture."""
        return search_space(self.architecture.space)

    @property
    def device_origin(self) -> str:
        """What a latency from the device is called: measured or simulated."""
        return "measured" if self.condition is None else Condition.from_dict(self.condition).origin

    def changed(self, **values: Any) -> SubnetRecord:
        """Return the record with some fields replaced."""
        return replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON-serialisable mapping."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["architecture"] = self.architecture.to_dict()
        values["models"] = [asdict(model) for model in self.models]
        values["verifications"] = [{**asdict(v), "condition": dict(v.condition)} for v in self.verifications]
        return {"format": FORMAT, "version": VERSION, **values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "subnet file") -> SubnetRecord:
        """Return the record that `to_dict` described, its architecture checked against its space.

        Raises:
            SubnetFileError: not a subnet file, a newer one, or one with unknown keys.
            ArchitectureError, UnknownSpaceError: the architecture is not valid.
        """
        if data.get("format") != FORMAT:
            raise SubnetFileError(f"{source} is not a subnet file: its 'format' is {data.get('format')!r}, expected {FORMAT!r}")
        if data.get("version") != VERSION:
            raise SubnetFileError(
                f"{source} has version {data.get('version')!r}; this program reads version {VERSION}; use the program that wrote it"
            )
        values = {key: value for key, value in data.items() if key not in ("format", "version")}
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise SubnetFileError(f"{source} has the unknown key {unknown[0]!r}; expected only {', '.join(f.name for f in fields(cls))}")
        try:
            architecture = Architecture.from_dict(values.pop("architecture"))
            models = tuple(ExportedModel(**model) for model in values.pop("models", ()))
            verifications = tuple(Verification(**v) for v in values.pop("verifications", ()))
            finalists = tuple(values.pop("finalists", ()))
            architecture = search_space(architecture.space).architecture(architecture)
            return cls(architecture=architecture, models=models, verifications=verifications, finalists=finalists, **values)
        except (TypeError, KeyError) as error:
            if type(error) in (TypeError, KeyError):
                raise SubnetFileError(f"{source} is damaged: {error}; write it again with `profiler search`") from error
            raise


def record_of(architecture: Architecture, **values: Any) -> SubnetRecord:
    """Return a record of an architecture with its counts filled in."""
    blocks = search_space(architecture.space).blocks(architecture)
    return SubnetRecord(architecture=architecture, macs=counts.macs(blocks), parameters=counts.parameters(blocks), **values)


def read_subnet(path: Path) -> SubnetRecord:
    """Return the subnet file at `path`; a plain architecture file (`space`, `values`) is accepted too.

    Raises:
        SubnetFileError: the file is neither.
        FileNotFoundError: there is none.
    """
    data = read_json(path)
    if isinstance(data, dict) and set(data) == {"space", "values"}:
        architecture = Architecture.from_dict(data)
        return record_of(search_space(architecture.space).architecture(architecture))
    if not isinstance(data, dict):
        raise SubnetFileError(f"{path} is not a subnet file: it holds a {type(data).__name__}, expected a JSON object")
    return SubnetRecord.from_dict(data, str(path))


def write_subnet(path: Path, record: SubnetRecord) -> None:
    """Write the record to `path`, whole or not at all."""
    write_json(path, record.to_dict())
