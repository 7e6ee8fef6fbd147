"""What a larger depthwise kernel costs in a measured table, as a ratio over all blocks that differ only in their kernel.

python benchmarks/kernel_cliff.py [TABLE ...]     (by default the tables that come with the package)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from luts.table import LatencyTable
from supernets.counts import block_macs

SHIPPED = Path(__file__).parent.parent / "luts" / "data"


def main() -> None:
    """Print the median ratio of latency, and of MACs, for each step of the kernel."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(SHIPPED.glob("*.lut")):
        table = LatencyTable.open(path)
        for small, large in ((3, 5), (5, 7)):
            larger = [entry for entry in table.entries.values() if entry.block.operator == "mbconv" and entry.block.kernel_size == large]
            pairs = [(entry, table.entry(replace(entry.block, kernel_size=small))) for entry in larger]
            times = [big.latency_ms / little.latency_ms for big, little in pairs]
            macs = [block_macs(big.block) / block_macs(little.block) for big, little in pairs]
            low, median, high = np.percentile(times, [5, 50, 95])
            spread = f"5 to 95 %: {low:.2f} to {high:.2f}"
            pair = f"{large}x{large} against {small}x{small}, {len(pairs)} blocks"
            print(f"{path.name}: {pair}: latency x{median:.2f} ({spread}), MACs x{np.median(macs):.2f}")


if __name__ == "__main__":
    main()
