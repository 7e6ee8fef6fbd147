"""What a report shows, as plain data. Latencies in milliseconds, accuracies, shares and spreads as fractions of one.

A section whose data is None or empty is left out of the page; one sentence there says which command would fill it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import luts.table
from predictors.quality import LatencyQuality
from profiler.measuring.models import file_precision
from profiler.report.kinds import BlockKinds
from profiler.report.session import Session
from profiler.report.staircase import Staircase
from profiler.report.system import SystemFacts
from profiler.subnet import ExportedModel, Verification
from supernets.blocks import BlockSpec
from supernets.counts import block_macs, block_parameters

ORIGINS = (*luts.table.ORIGINS, "counted")


@dataclass(frozen=True)
class BlockRow:
    """One block of the chosen subnet; `latency_ms` is its entry in the latency table, `latency_origin` where that comes from."""

    block: BlockSpec
    latency_ms: float | None = None
    latency_origin: str = "measured"

    def __post_init__(self) -> None:
        if self.latency_origin not in ORIGINS:
            raise ValueError(f"latency_origin of block {self.block.name!r} is {self.latency_origin!r}; expected one of {', '.join(ORIGINS)}")

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return block_macs(self.block)

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return block_parameters(self.block)


@dataclass(frozen=True)
class Subnet:
    """The chosen subnet; its first run is the one the page leads with."""

    resolution: int  # pixels
    blocks: tuple[BlockRow, ...]
    max_latency_ms: float | None = None
    predicted_latency_ms: float | None = None
    predicted_accuracy: float | None = None
    measured_accuracy: float | None = None
    accuracy_images: int | None = None  # how many images it was measured on
    lowest_latency_ms: float | None = None  # lowest reachable of the space
    random_over_budget: float | None = None  # share of random networks of the space that miss the budget
    runs: tuple[Verification, ...] = ()
    files: tuple[ExportedModel, ...] = ()

    def file_of(self, run: Verification) -> str:
        """Return the name of the file that was measured in a run."""
        measured = (run.format, file_precision(run.condition["precision"]), run.condition["batch"])
        return next((model.file for model in self.files if (model.format, model.precision, model.batch) == measured), run.format)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return sum(block.macs for block in self.blocks)

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(block.parameters for block in self.blocks)

    @property
    def measured_latency_ms(self) -> float | None:
        """What the device said in the first run; None without one."""
        return self.runs[0].measured_latency_ms if self.runs else None

    @property
    def kept(self) -> bool | None:
        """Whether the measured latency is within the budget; None without one or the other."""
        measured = self.measured_latency_ms
        return None if measured is None or self.max_latency_ms is None else measured <= self.max_latency_ms


@dataclass(frozen=True)
class MacsLatency:
    """Whole networks measured on the device: multiply-adds and latency of each, in the same order.

    `line` is the FLOPs line: milliseconds a million multiply-adds, and milliseconds at none.
    """

    macs: tuple[float, ...]
    latencies_ms: tuple[float, ...]
    line: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.macs) != len(self.latencies_ms) or len(self.macs) < 3:
            raise ValueError(f"a report got {len(self.macs)} MACs and {len(self.latencies_ms)} latencies; expected as many of each, at least 3")


@dataclass(frozen=True)
class HeldOut:
    """Networks no predictor was fitted on: measured latencies, what each predictor says, by its name, in the same order, and its quality.

    `chosen` names the predictor that is used; `flops_line` the one that knows MACs only; `table_sum` and `calibrated` the sum
    of the blocks before and after calibration, `line` the milliseconds that this adds to the sum and what it multiplies it by.
    """

    measured_ms: tuple[float, ...]
    predicted_ms: Mapping[str, tuple[float, ...]]
    qualities: Mapping[str, LatencyQuality]
    chosen: str
    flops_line: str | None = None
    table_sum: str | None = None
    calibrated: str | None = None
    line: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.measured_ms) < 3:
            raise ValueError(f"a report got {len(self.measured_ms)} held-out networks; expected at least 3")
        for name, predicted in self.predicted_ms.items():
            if len(predicted) != len(self.measured_ms):
                raise ValueError(f"predictor {name!r} has {len(predicted)} predictions for {len(self.measured_ms)} networks; expected one each")
            if name not in self.qualities:
                raise ValueError(f"predictor {name!r} has no quality; expected one for each predictor")
        for name in filter(None, (self.chosen, self.flops_line, self.table_sum, self.calibrated)):
            if name not in self.predicted_ms:
                raise ValueError(f"predictor {name!r} is named but has no predictions; there are those of {', '.join(self.predicted_ms)}")

    @property
    def ceiling(self) -> float | None:
        """The mean error that a perfect predictor would still show, as a share: the measurements' own noise; None if unknown."""
        percent = self.qualities[self.chosen].repeatability_percent
        return None if percent is None else percent / 100


@dataclass(frozen=True)
class AccuracyLatency:
    """The search's picture: (latency_ms, accuracy) of the front, of random networks and of the chosen subnet.

    All are what the search went by: `accuracy_is` and `latency_is` say in words what that was. `limit` is what `max_latency_ms` is
    called, a budget or a target.
    """

    front: tuple[tuple[float, float], ...]
    random: tuple[tuple[float, float], ...] = ()
    chosen: tuple[float, float] | None = None
    max_latency_ms: float | None = None
    accuracy_is: str = "predicted"
    latency_is: str = "predicted"
    limit: str = "budget"


@dataclass(frozen=True)
class Finalist:
    """One of the best networks of the search that was measured again; None where it was not."""

    predicted_accuracy: float | None
    predicted_latency_ms: float | None
    measured_accuracy: float | None = None
    measured_latency_ms: float | None = None
    macs: int | None = None
    chosen: bool = False


@dataclass(frozen=True)
class AccuracyPredictorRow:
    """How well one accuracy predictor did on subnets it was not fitted on; None where a figure was not computed."""

    name: str
    fitted_on: int  # subnets
    rmse: float | None  # fraction of one, shown in points
    kendall: float | None
    spearman: float | None = None
    kendall_within_resolution: float | None = None  # mean over resolutions
    chosen: bool = False


@dataclass(frozen=True)
class SearchPoint:
    """The best network so far when `evaluations` networks had been scored; its accuracy is what the search went by."""

    evaluations: int
    accuracy: float


@dataclass(frozen=True)
class Check:
    """One trust check: passed or not, and its sentence with the numbers in it."""

    passed: bool
    text: str


@dataclass(frozen=True)
class Origin:
    """Where one kind of number on the page comes from: one of ORIGINS, and how it was come by."""

    quantity: str
    origin: str
    text: str

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ValueError(f"origin of {self.quantity!r} is {self.origin!r}; expected one of {', '.join(ORIGINS)}")


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows. `created` and `version` are text; `condition` is label → text, in the order to show.

    `simulated` says that the device is simulated: what else would be marked "measured" is then marked "simulated".
    `commands` replaces, by name of the section, the command that would fill it.
    """

    space: str
    device: str
    condition: Mapping[str, str]
    created: str
    version: str
    simulated: bool = False
    subnet: Subnet | None = None
    kinds: BlockKinds | None = None
    staircase: Staircase | None = None
    session: Session | None = None
    macs_latency: MacsLatency | None = None
    held_out: HeldOut | None = None
    accuracy_latency: AccuracyLatency | None = None
    finalists: tuple[Finalist, ...] = ()
    accuracy_predictors: tuple[AccuracyPredictorRow, ...] = ()
    accuracy_reliability: float | None = None  # split-half reliability of the measured accuracies, 0 to 1
    history: tuple[SearchPoint, ...] = ()
    checks: tuple[Check, ...] = ()
    origins: tuple[Origin, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    system: SystemFacts | None = None
    left_out: frozenset[str] = frozenset()  # sections that are not meant to be there

    @property
    def device_origin(self) -> str:
        """What a number from the device is called."""
        return "simulated" if self.simulated else "measured"
