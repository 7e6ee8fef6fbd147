"""What measuring fewer resolutions loses in prediction and saves in time.

Takes out of a full table what `profiler collect --thin` would not have measured, interpolates it, and judges both on the
same whole networks, for the random checks of several seeds; the time is that of the visits left. With --thinned, a table
that was really collected so is judged too. Limits: 0.3 points of MAPE, 6 minutes.

    python benchmarks/thinning.py [--table cpu.lut --networks runs/prediction-onnxruntime.lut] [--thinned thin.lut]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from luts.estimates import NANOSECONDS_A_MILLISECOND
from luts.interpolation import WIDTH, by_size, interpolate, with_interpolated
from luts.store import MeasurementStore
from luts.table import LatencyTable, NetworkMeasurement
from predictors.latency.judging import fit_and_judge
from profiler.measuring.evidence import Evidence
from profiler.measuring.thinning import Thinning, thin
from supernets.blocks import BlockSpec
from supernets.places import covering_architectures, distinct_blocks
from supernets.spaces import space as search_space

SHIPPED = Path(__file__).parent.parent / "luts" / "data"
PREDICTORS = ("additive", "calibrated", "terms", "gaussian_process")
SEEDS = range(5)
MOST_POINTS, MOST_SECONDS = 0.3, 360


@dataclass(frozen=True)
class Replay:
    """A table as a thinned collection would have left it, what that would have measured, in how many chains, and how the checks went."""

    table: LatencyTable
    measured: frozenset[BlockSpec]
    chains: int
    misses: tuple[float, ...]


def replayed(full: LatencyTable, thinning: Thinning) -> Replay:
    """Return what a thinned collection would have made of what a full one measured."""
    space, chain_ms = thinning.space, {entry.block: entry.latency_ms for entry in full.entries.values()}
    first = {block for architecture in thinning.architectures for block in space.blocks(architecture)}
    checks = thinning.spot_checks({block: chain_ms[block] for block in first})
    architectures = (*thinning.architectures, *thinning.further(checks))
    measured = frozenset(block for architecture in architectures for block in space.blocks(architecture))
    alone_ms = {block.key: full.alone_ms[block.key] for block in measured}
    left = LatencyTable(full.condition, full.mode, map(full.entry, measured), full.networks(), full.source, full.space, alone_ms)
    table = with_interpolated(left, distinct_blocks(space))
    return Replay(table, measured, len(architectures), tuple(check.miss for check in checks))


def mapes(table: LatencyTable, others: Sequence[NetworkMeasurement]) -> dict[str, float]:
    """Return predictor → MAPE, fitted on the table's calibration networks, on the others; on its own held-out ones where there are none."""
    networks = [*table.networks("calibration"), *(replace(network, role="held_out") for network in others or table.networks("held_out"))]
    judged = LatencyTable(table.condition, table.mode, table.entries.values(), networks, table.source, table.space, table.alone_ms)
    fitted = fit_and_judge(search_space(table.space or ""), judged, PREDICTORS)
    return {name: predictor.quality.mape_percent for name, predictor in fitted.items() if predictor.quality is not None}


def seconds(evidence: Evidence, replay: Replay, blocks: int, chains: int) -> float:
    """Return the time of the visits left; what lies between visits goes by the number of blocks, that is of models to load."""
    keys = {block.key for block in replay.measured}
    alone_s = sum(visit.seconds for visit in evidence.visits if visit.mode == "alone" and visit.subjects[0] in keys)
    chain_s = sum(visit.seconds for visit in evidence.visits if visit.mode == "chain")
    network_s = sum(visit.seconds for visit in evidence.visits if visit.mode == "network")
    between_s = evidence.seconds() - sum(visit.seconds for visit in evidence.visits if visit.mode != "anchor")
    return alone_s + network_s + chain_s * replay.chains / chains + between_s * len(keys) / blocks


def width_misses(table: LatencyTable) -> list[float]:
    """Return how far off the law of widths is at each middle width, from the smallest and the largest."""
    ms = {entry.block: entry.latency_ms for entry in table.entries.values()}
    found = []
    for family in by_size(ms, WIDTH).values():
        ends = {block: ms[block] for block in (family[0], family[-1])}
        middle = {block.key: block for block in family[1:-1]}
        found += [f.latency_ns / NANOSECONDS_A_MILLISECOND / ms[middle[f.key]] - 1 for f in interpolate(ends, middle.values(), "chain", WIDTH)]
    return found


def compare(path: Path, others: Sequence[NetworkMeasurement], really: Path | None) -> None:
    """Print the loss and the time of one full table, replayed, and of one really thinned."""
    full = LatencyTable.open(path)
    space = search_space(full.space or "")
    with MeasurementStore(path, read_only=True) as store:
        evidence = Evidence.of_store(store)
    chains, full_mapes, full_s = len(covering_architectures(space)), mapes(full, others), evidence.seconds()
    replays = [replayed(full, thin(space, seed)) for seed in SEEDS]
    losses = [{name: mape - full_mapes[name] for name, mape in mapes(replay.table, others).items()} for replay in replays]
    times_s = [seconds(evidence, replay, len(full.entries), chains) for replay in replays]
    misses = np.abs([miss for replay in replays for miss in replay.misses])
    print(f"{path.name}: {len(full.entries)} blocks in {full_s:.0f} s; thinned to {np.mean([len(r.measured) for r in replays]):.0f} blocks, "
          f"{np.mean(times_s):.0f} s, x{full_s / np.mean(times_s):.2f} (limit {MOST_SECONDS} s)")  # fmt: skip
    print(f"  spot checks off by {np.median(misses):.1%} at the median, {np.percentile(misses, 95):.1%} at the 95th percentile")
    for name, mape in full_mapes.items():
        own = [loss[name] for loss in losses]
        print(f"  {name}: MAPE {mape:.2f} %, thinned {np.mean(own):+.2f} points, at worst {max(own):+.2f} (limit {MOST_POINTS:+.2f})")
    widths = np.abs(width_misses(full))
    print(f"  expand widths by the same law: off by {widths.mean():.1%} in the mean, {np.percentile(widths, 95):.1%} at the 95th percentile")
    if really is not None:
        with MeasurementStore(really, read_only=True) as store:
            real_s = Evidence.of_store(store).seconds()
        print(f"{really.name}: collected in {real_s:.0f} s, x{full_s / real_s:.2f}")
        for name, mape in mapes(LatencyTable.open(really), others).items():
            print(f"  {name}: MAPE {mape:.2f} %, {mape - full_mapes[name]:+.2f} points against {path.name} (limit {MOST_POINTS:+.2f})")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="a full table; the shipped ones where none is given")
    parser.add_argument("--networks", type=Path, help="whole networks measured under the same condition, to judge by")
    parser.add_argument("--thinned", type=Path, help="a table collected with --thin under the same condition")
    options = parser.parse_args()
    others = [] if options.networks is None else LatencyTable.open(options.networks).networks()
    for path in sorted(SHIPPED.glob("*.lut")) if options.table is None else [options.table]:
        compare(path, others, options.thinned)


if __name__ == "__main__":
    main()
