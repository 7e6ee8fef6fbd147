"""What a GPU's tables are worth: the tiny space measured whole, the ImageNet space thinned, and how well both predict whole networks.

Collects both tables on the device, going on where a killed run was; fits every predictor on the networks measured for that,
judges it on those held out, and prints the chosen one's figures against the limits that hold for CPUs.

    python benchmarks/gpu_latency.py [--device local-gpu] [--runtime torch-cuda] [--out runs/gpu] [--only ofa-mobilenetv3-tiny]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agents.base import DeviceAgent, DeviceError
from device_agents.devices import connect
from luts.table import LatencyTable
from predictors.latency.choosing import choose
from predictors.latency.judging import fit_and_judge
from predictors.quality import LatencyQuality
from profiler.collecting import collect_table, space_to_measure
from profiler.coverage import covered_space


@dataclass(frozen=True)
class Job:
    """A table to collect: the space, its resolutions, how, and the most minutes that may take."""

    space: str
    resolutions: str | None
    preset: str
    thin_out: bool
    most_minutes: float


JOBS = (
    Job("ofa-mobilenetv3-tiny", None, "quick", thin_out=False, most_minutes=3),
    Job("ofa-mobilenetv3-w1.2", "128:224:4", "full", thin_out=True, most_minutes=8),
)
# Of the chosen predictor on held-out networks: what, figure, limit, and whether the figure must stay below it.
LIMITS: tuple[tuple[str, Callable[[LatencyQuality], float], float, bool], ...] = (
    ("MAPE %", lambda q: q.mape_percent, 1.5, True),
    ("share beyond 5 %", lambda q: 1 - q.within_5_share, 0.03, True),
    ("share beyond 10 %", lambda q: 1 - q.within_10_share, 0.0, True),
    ("Spearman", lambda q: q.spearman or 0.0, 0.997, False),
)
MOST_SHARE_OF_FLOPS_LINE = 0.5  # of its MAPE: else a table is not worth its time


def _verdict(what: str, figure: float, limit: float, below: bool = True) -> str:
    kept = figure <= limit if below else figure >= limit
    ratio = f"{figure / limit:.3f} of" if limit else "against"
    return f"{what:58s} {figure:8.4g}  {ratio} the limit {limit:g} ({'most' if below else 'least'})  {'kept' if kept else 'MISSED'}"


def _show(done: int, total: int, note: str) -> None:
    if done % 100 == 0 or done == total:
        print(f"\r{done}/{total} visits", end="\n" if done == total else "", flush=True)


def run(job: Job, agent: DeviceAgent, out: Path) -> None:
    """Collect one table, judge the predictors, print."""
    space, file = space_to_measure(job.space, job.resolutions), out / f"{job.space}.lut"
    began_s = time.monotonic()
    result = collect_table(space, agent, file, job.preset, 0, _show, thin_out=job.thin_out)
    minutes = (time.monotonic() - began_s) / 60
    print(result.sentence())
    for told in (result.ending(), None if result.thinned is None else result.thinned.sentence(), *(check.text for check in result.warnings)):
        if told:
            print(f"  {told}")
    table = LatencyTable.open(file)
    fitted = fit_and_judge(covered_space(space, table), table)
    chosen = choose(fitted)
    for name, predictor in fitted.items():
        q = predictor.quality
        if q is not None:
            print(f"{name:18s} MAPE {q.mape_percent:6.2f} %  bias {q.bias_percent:+6.2f} %  within 5 % {q.within_5_share:6.1%}"
                  f"  Spearman {q.spearman or 0:.4f}  worst {q.worst_percent:+6.2f} %{'  (chosen)' if name == chosen else ''}")  # fmt: skip
    quality, line = fitted[chosen].quality, fitted["flops_line"].quality
    if quality is None or line is None:
        raise SystemExit(f"{file} holds no held-out networks; remove it and run this again")
    print(f"noise ceiling (MAPE of a perfect predictor) {quality.repeatability_percent or float('nan'):.2f} %")
    for what, figure, limit, below in LIMITS:
        print(_verdict(f"{job.space}, {chosen}: {what}", figure(quality), limit, below))
    print(_verdict(f"{job.space}, {chosen}: MAPE, share of flops_line's", quality.mape_percent / line.mape_percent, MOST_SHARE_OF_FLOPS_LINE))
    if not result.summary.skipped_visits:
        print(_verdict(f"{job.space}: minutes", minutes, job.most_minutes))


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local-gpu")
    parser.add_argument("--runtime")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--only", choices=[job.space for job in JOBS])
    options = parser.parse_args()
    try:
        with connect(options.device, runtime=options.runtime) as agent:
            info = agent.info()
            print(f"{info.cpu_model}, {info.runtime} {info.runtime_version}, {info.delegate}, driver {info.extra.get('driver_version', 'unknown')}")
            for job in JOBS:
                if options.only in (None, job.space):
                    run(job, agent, options.out)
    except DeviceError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
