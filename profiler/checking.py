"""Whether a device can be measured, and how well it repeats itself: a few small models visited in turn, in fresh workers, for some minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from device_agents.base import Check, DeviceAgent, DeviceError, Visit, VisitPlan
from luts.estimates import LATENCY_PERCENTILE
from profiler.measuring.models import ModelMaker, default_model_maker
from profiler.measuring.quality import SLOW_FACTOR
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

Figures = np.ndarray[Any, np.dtype[np.float64]]

SPACE, RESOLUTION, MODELS = "ofa-mobilenetv3-w1.2", 160, 5  # blocks of some tenths of a millisecond on a desktop core
VISITS, RUNS, WARMUP_RUNS, MIN_CALL_NS = 30, 10, 2, 100_000  # visits of each model in one worker
VISITS_OF_RUNNERS = 6  # where each is a program of its own to start, which takes most of a second
FEWEST_WORKERS, MOST_WORKERS = 4, 200
VISIT_NUMBERS = (3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000)
DRAWS = 200


@dataclass(frozen=True)
class Repeatability:
    """How a device repeats itself; shares and differences are 0 to 1, dwells seconds (None where the device never changed its speed).

    `apart` is how far the estimates from even and odd workers lie apart, the median over the models and the worst. The
    visits for 1 % and 2 % keep 95 % of all estimates within that; None where more visits would be needed than were made.
    """

    workers: int
    visits: int
    seconds: float
    slow_share: float
    slow_dwell_s: float | None
    fast_dwell_s: float | None
    apart_median: float
    apart_worst: float
    visits_for_1_percent: int | None
    visits_for_2_percent: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a JSON-serialisable mapping."""
        return asdict(self)


def proved(agent: DeviceAgent) -> Iterator[Check]:
    """Yield the steps of an agent's checks; what stops them is a step that failed."""
    try:
        yield from agent.checks()
    except (DeviceError, ImportError, ValueError) as error:
        yield Check("device", False, " ".join(str(error).split()))


def check_repeatability(agent: DeviceAgent, minutes: float, report: Callable[[int, int], None] | None = None,
                        model_maker: ModelMaker | None = None) -> Repeatability:  # fmt: skip
    """Return how a device repeats itself over these minutes of its own clock.

    Raises:
        DeviceError: the device or its worker failed.
    """
    info = agent.info()
    maker = model_maker or default_model_maker(agent.model_format, info.batch, info.precision)
    blocks = sorted(distinct_blocks(space(SPACE).restrict({"resolution": (RESOLUTION,)})), key=block_macs)
    chosen = [blocks[round((i + 1) * len(blocks) / (MODELS + 1))] for i in range(MODELS)]
    models = {f"model-{i}": maker([block]) for i, block in enumerate(chosen)}
    visits = VISITS if agent.runs_chains else VISITS_OF_RUNNERS
    workers: list[list[Visit]] = []
    while len(workers) < FEWEST_WORKERS or (_seconds(workers) < 60 * minutes and len(workers) < MOST_WORKERS):
        plans = [
            VisitPlan(f"check-{len(workers)}-{name}-{visit}", (name,), RUNS, WARMUP_RUNS, MIN_CALL_NS) for visit in range(visits) for name in models
        ]
        workers.append(list(agent.measure(models, plans)))
        if report is not None:
            report(round(min(_seconds(workers), 60 * minutes)), round(60 * minutes))
    return _judged(workers, len(models))


def _seconds(workers: Sequence[Sequence[Visit]]) -> float:
    moments = [state.unix_time_ns for visits in workers for visit in visits for state in (visit.state_before, visit.state_after)]
    return (max(moments) - min(moments)) / 1e9 if moments else 0.0


def _judged(workers: Sequence[Sequence[Visit]], models: int) -> Repeatability:
    """Return the figures of workers that visited the models in turn, each as often."""
    samples = min(visit.samples_ns.shape[1] for visits in workers for visit in visits)  # fewer than runs where a device tells totals only
    runs_ns = np.array([[visit.samples_ns[0, :samples] / visit.repeats for visit in visits] for visits in workers])
    runs_ns = runs_ns.reshape(len(workers), -1, models, runs_ns.shape[-1])  # (workers, visits, models, runs)
    levels = np.median(runs_ns, axis=3)
    slow = levels / np.percentile(levels, LATENCY_PERCENTILE, axis=(0, 1)) > SLOW_FACTOR
    halves = [np.percentile(runs_ns[half::2], LATENCY_PERCENTILE, axis=(0, 1, 3)) for half in (0, 1)]
    apart = 2 * np.abs(halves[0] - halves[1]) / (halves[0] + halves[1])
    dwells = _dwells(workers, slow.reshape(len(workers), -1))
    errors = _errors(runs_ns.reshape(-1, models, runs_ns.shape[-1]))
    return Repeatability(
        len(workers), sum(map(len, workers)), _seconds(workers), float(slow.mean()), dwells[True], dwells[False], float(np.median(apart)),
        float(apart.max()), next((count for count, error in errors.items() if error <= 0.01), None),
        next((count for count, error in errors.items() if error <= 0.02), None),
    )  # fmt: skip


def _dwells(workers: Sequence[Sequence[Visit]], slow: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[bool, float | None]:
    """Return how long the device stays slow (True) and fast, in the mean."""
    spent_s = {True: 0.0, False: 0.0}
    changes = {True: 0, False: 0}  # ends of a stay
    for visits, states in zip(workers, slow, strict=True):
        for i in range(len(visits) - 1):
            spent_s[bool(states[i])] += max(0, visits[i + 1].state_before.unix_time_ns - visits[i].state_before.unix_time_ns) / 1e9
            changes[bool(states[i])] += bool(states[i] != states[i + 1])
    return {state: spent_s[state] / changes[state] if changes[state] else None for state in (True, False)}


def _errors(visits_ns: Figures) -> dict[int, float]:
    """Return number of visits → the error that 95 % of estimates from so many, scattered over the session, stay within (median over models)."""
    rng = np.random.default_rng(0)
    truth_ns = np.percentile(visits_ns, LATENCY_PERCENTILE, axis=(0, 2))
    errors = {}
    for count in (count for count in VISIT_NUMBERS if count <= len(visits_ns) // 2):
        drawn = [visits_ns[rng.choice(len(visits_ns), count, replace=False)] for _ in range(DRAWS)]
        found_ns = np.array([np.percentile(visits, LATENCY_PERCENTILE, axis=(0, 2)) for visits in drawn])
        errors[count] = float(np.median(np.percentile(np.abs(found_ns / truth_ns - 1), 95, axis=0)))
    return errors
