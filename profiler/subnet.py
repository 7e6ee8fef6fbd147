"""The subnet file: one chosen architecture with everything known about it, and where each number comes from.

`profiler search` writes it, `export` puts models beside it, `verify` adds what the device says. JSON, version inside.
Latencies in milliseconds, accuracies as fractions of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from luts.condition import Condition
from profiler.files import read_json, write_json
from supernets import counts
from supernets.space import Architecture, SearchSpace
from supernets.spaces import UnknownSpaceError
from supernets.spaces import space as search_space

FORMAT = "elastic-latency subnet"
# 1: first version.
VERSION = 1


class SubnetFileError(ValueError):
    """A file that is not a subnet file, a damaged one, or one of a newer version."""


# Figures of each class: least and most value; those that must be there, and be whole, are named below.
HUGE = 1e18  # beyond every figure here, and still a number that all that is reckoned with it takes
NOT_NEGATIVE, SHARE, AT_LEAST_1, ANY = (0.0, HUGE), (0.0, 1.0), (1.0, HUGE), (-HUGE, HUGE)
FINALIST_FIGURES = {
    "predicted_accuracy": ANY, "predicted_latency_ms": NOT_NEGATIVE, "measured_accuracy": SHARE, "measured_latency_ms": NOT_NEGATIVE,
    "proxy_accuracy": SHARE,
}  # fmt: skip
FINALIST_ACCURACIES = ("measured_accuracy", "proxy_accuracy", "predicted_accuracy")  # the best known first; proxy: after a short training
FINALIST_LATENCIES = ("measured_latency_ms", "predicted_latency_ms")
RECORD_FIGURES = {
    **FINALIST_FIGURES, "macs": NOT_NEGATIVE, "parameters": NOT_NEGATIVE, "max_latency_ms": NOT_NEGATIVE, "measured_accuracy_images": AT_LEAST_1,
}  # fmt: skip
MODEL_FIGURES = {"bytes": NOT_NEGATIVE, "batch": AT_LEAST_1, "check_images": AT_LEAST_1, "relative_difference": NOT_NEGATIVE, "same_top1": SHARE}
QUANTISED_FIGURES = {"range_images": AT_LEAST_1, "accuracy": SHARE, "float_accuracy": SHARE, "accuracy_images": AT_LEAST_1}
VERIFICATION_FIGURES = {
    "predicted_latency_ms": ANY, "measured_latency_ms": NOT_NEGATIVE, "relative_spread": NOT_NEGATIVE, "max_latency_ms": NOT_NEGATIVE,
    "visits": AT_LEAST_1, "samples": AT_LEAST_1,
}  # fmt: skip
SEARCH_FIGURES = {"random_networks_over_budget": SHARE, "lowest_latency_ms": NOT_NEGATIVE}
WHOLE = (
    "macs", "parameters", "bytes", "check_images", "measured_accuracy_images", "visits", "samples", "range_images", "accuracy_images", "batch",
)  # fmt: skip
NEEDED = {*MODEL_FIGURES, "macs", "parameters", "visits", "samples"}


def _check_figures(values: Mapping[str, Any], figures: Mapping[str, tuple[float, float]], needed: Collection[str]) -> None:
    """Do nothing where each figure is a number in its range, or None where it need not be known.

    Raises:
        SubnetFileError: one is not; the text names it with its value.
    """
    for name, (least, most) in figures.items():
        value: Any = values.get(name)
        kind: Any = Integral if name in WHOLE else Real
        if value is None and name not in needed:
            continue
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
            what = "whole number" if kind is Integral else "number"
            raise SubnetFileError(f"{name} is {value!r}; expected a {what} from {least:g} to {most:g}")


def _best_known(finalist: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the first of the names that a finalist has, the last one where it has none."""
    return next((name for name in names if name in finalist), names[-1])


def finalist_accuracy(finalist: Mapping[str, Any]) -> float:
    """Return what is known best of a finalist's accuracy."""
    return float(finalist[_best_known(finalist, FINALIST_ACCURACIES)])


def finalist_latency_ms(finalist: Mapping[str, Any]) -> float:
    """Return what is known best of a finalist's latency."""
    return float(finalist[_best_known(finalist, FINALIST_LATENCIES)])


@dataclass(frozen=True)
class ExportedModel:
    """One model file beside the subnet file, and how far it is from the network it was made of.

    `relative_difference` is the largest difference of an output from the supernet's own child, over the largest output;
    `same_top1` the share of the check images with the same best class. Of a quantised model: `range_images` its activation
    ranges were found on, its `accuracy`, and that of the float model of the same format (`float_accuracy`), on
    `accuracy_images` test images. `batch` is how many images it takes at a time.
    """

    format: str
    file: str
    sha256: str
    bytes: int
    check_images: int
    relative_difference: float
    same_top1: float
    precision: str = "float32"
    range_images: int | None = None
    accuracy: float | None = None
    float_accuracy: float | None = None
    accuracy_images: int | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.file, str) or not self.file or Path(self.file).name != self.file:
            raise SubnetFileError(f"model file {self.file!r} is not a name in the subnet file's own folder; export the subnet again")
        if not isinstance(self.precision, str):
            raise SubnetFileError(f"precision is {self.precision!r}; expected a text such as float32")
        _check_figures(vars(self), MODEL_FIGURES | QUANTISED_FIGURES, NEEDED)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping, without those of quantised models where it is none, and without a batch of 1."""
        usual = {"precision": "float32", "batch": 1}
        return {name: value for name, value in asdict(self).items() if value is not None and value != usual.get(name)}

    def accuracies(self) -> str | None:
        """Return the accuracy of a quantised model after and before, in words; None of a float one."""
        if self.accuracy is None or self.float_accuracy is None:
            return None
        points = round(100 * (self.accuracy - self.float_accuracy), 2) + 0.0  # no minus before a zero
        images = f"{self.accuracy_images} test images"
        return f"top-1 accuracy {self.accuracy:.2%} after quantisation, {self.float_accuracy:.2%} before ({points:+.2f} points, {images})"


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

    def __post_init__(self) -> None:
        _check_figures(vars(self), VERIFICATION_FIGURES, {"measured_latency_ms", *NEEDED})
        Condition.from_dict(self.condition)

    @property
    def origin(self) -> str:
        """What the latency is called: measured or simulated."""
        return Condition.from_dict(self.condition).origin

    @property
    def runtime(self) -> str:
        """The runtime with its version."""
        return f"{self.condition.get('runtime')} {self.condition.get('runtime_version')}"

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

    def __post_init__(self) -> None:
        _check_figures(vars(self), RECORD_FIGURES, NEEDED)
        _check_figures(self.search or {}, SEARCH_FIGURES, ())
        for finalist in self.finalists:
            _check_figures(finalist, FINALIST_FIGURES, [_best_known(finalist, names) for names in (FINALIST_ACCURACIES, FINALIST_LATENCIES)])
        if self.condition is not None:
            Condition.from_dict(self.condition)
        if not isinstance(self.weights_sha256, (str, type(None))):
            raise SubnetFileError(f"weights_sha256 is {self.weights_sha256!r}; expected a text")

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
        values["models"] = [model.to_dict() for model in self.models]
        values["verifications"] = [{**asdict(v), "condition": dict(v.condition)} for v in self.verifications]
        return {"format": FORMAT, "version": VERSION, **values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "subnet file") -> SubnetRecord:
        """Return the record that `to_dict` described, its architecture checked against its space.

        Raises:
            SubnetFileError: not a subnet file, a newer one, one with unknown keys, or a damaged one.
            UnknownSpaceError: no space has the name of its architecture's.
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
        with _told_of(source):
            architecture = _architecture(values.pop("architecture"))
            models = tuple(ExportedModel(**model) for model in values.pop("models", ()))
            verifications = tuple(Verification(**v) for v in values.pop("verifications", ()))
            finalists = tuple(values.pop("finalists", ()))
            for finalist in finalists:
                _architecture(finalist["architecture"])
            return cls(architecture=architecture, models=models, verifications=verifications, finalists=finalists, **values)


def _architecture(data: Mapping[str, Any]) -> Architecture:
    architecture = Architecture.from_dict(data)
    return search_space(architecture.space).architecture(architecture)


@contextmanager
def _told_of(source: str) -> Iterator[None]:
    """Name the file in what is wrong with its content."""
    try:
        yield
    except UnknownSpaceError as error:
        raise UnknownSpaceError(f"{source}: {error}") from None
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        raise SubnetFileError(f"{source} is damaged: {error}; write it again with `profiler search`") from error


def record_of(architecture: Architecture, **values: Any) -> SubnetRecord:
    """Return a record of an architecture with its counts filled in."""
    blocks = search_space(architecture.space).blocks(architecture)
    return SubnetRecord(architecture=architecture, macs=counts.macs(blocks), parameters=counts.parameters(blocks), **values)


def read_subnet(path: Path) -> SubnetRecord:
    """Return the subnet file at `path`; a plain architecture file (`space`, `values`) is accepted too.

    Raises:
        SubnetFileError: the file is neither, or damaged.
        FileKindError: it is not JSON.
        FileNotFoundError: there is none.
    """
    data = read_json(path)
    if isinstance(data, dict) and data and set(data) <= {"space", "values"}:
        with _told_of(str(path)):
            return record_of(_architecture(data))
    if not isinstance(data, dict):
        raise SubnetFileError(f"{path} is not a subnet file: it holds no JSON object; expected one, as `profiler search` writes it")
    return SubnetRecord.from_dict(data, str(path))


def write_subnet(path: Path, record: SubnetRecord) -> None:
    """Write the record to `path`, whole or not at all."""
    write_json(path, record.to_dict())
