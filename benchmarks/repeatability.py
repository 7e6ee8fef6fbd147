"""How well a collection repeats itself: two tables of the same space and condition, collected by separate commands, block by block.

profiler collect --space ofa-mobilenetv3-w1.2 --resolutions 128:224:4 --runtime onnxruntime --out a.lut
profiler collect --space ofa-mobilenetv3-w1.2 --resolutions 128:224:4 --runtime onnxruntime --out b.lut
python benchmarks/repeatability.py a.lut b.lut
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from luts.comparing import compare_blocks
from luts.table import MODES, LatencyTable

MOST_MEDIAN_PERCENT, MOST_P95_PERCENT = 2.0, 6.0
INTERVAL = 1.96  # standard errors on each side that hold 95 % of a normal distribution


def _verdict(what: str, figure: float, limit: float) -> str:
    return f"{what:44s} {figure:6.2f}  {figure / limit:.3f} of the limit {limit:g}  {'kept' if figure <= limit else 'MISSED'}"


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs=2)
    paths = parser.parse_args().tables
    for mode in MODES:
        one, other = (LatencyTable.open(path, mode) for path in paths)
        differences = one.condition.differences_in_words(other.condition)
        if differences:
            raise SystemExit(f"the tables were measured under different conditions: {differences}")
        pairs = [(one.entries[key], other.entries[key]) for key in one.entries.keys() & other.entries.keys()]
        ratios = np.array([b.latency_ms / a.latency_ms for a, b in pairs])
        errors = np.array([np.hypot(a.relative_spread or 0, b.relative_spread or 0) for a, b in pairs])
        off = compare_blocks(one, other).differences
        held = np.abs(np.log(ratios)) <= INTERVAL * errors
        print(f"{len(pairs)} blocks, mode {mode}: level {100 * (np.median(ratios) - 1):+.2f} %, inside their joint 95 % interval {held.mean():.1%}")
        print(_verdict("  difference of the median block, %", 100 * off[50], MOST_MEDIAN_PERCENT))
        print(_verdict("  difference at the 95th percentile, %", 100 * off[95], MOST_P95_PERCENT))
    networks = {network.blocks: network for network in LatencyTable.open(paths[0]).networks()}
    ratios = np.array([n.latency_ms / networks[n.blocks].latency_ms for n in LatencyTable.open(paths[1]).networks() if n.blocks in networks])
    if len(ratios):
        level, difference = 100 * (np.median(ratios) - 1), 100 * np.median(np.abs(ratios - 1))
        print(f"{len(ratios)} whole networks: level {level:+.2f} %, median difference {difference:.2f} %")


if __name__ == "__main__":
    main()
