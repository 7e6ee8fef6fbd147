from __future__ import annotations

import numpy as np
import pytest

from luts.comparing import compare_blocks
from luts.condition import Condition
from luts.table import Entry, LatencyTable
from supernets.places import distinct_blocks
from supernets.spaces import space

CONDITION = Condition("local", "onnxruntime", "1.31.1", "CPUExecutionProvider", 1, (1,), 1, "float32", "AMD EPYC")
BLOCKS = distinct_blocks(space("ofa-mobilenetv3-tiny").restrict({"resolution": (28,)}))


def table(latencies_ms) -> LatencyTable:
    return LatencyTable(CONDITION, "chain", [Entry(block, ms, "measured", None, 1, 3) for block, ms in zip(BLOCKS, latencies_ms, strict=False)])


def test_ratios_are_second_by_first_and_differences_either_way():
    found = compare_blocks(table([1.0] * 5), table([0.8, 0.9, 1.0, 1.1, 1.3]))
    assert found.blocks == 5
    assert found.ratios[50] == 1.0
    assert found.ratios[25] == pytest.approx(0.9)
    assert found.differences[50] == pytest.approx(0.1)
    assert found.differences[75] == pytest.approx(0.2)


def test_a_table_compared_with_itself_does_not_differ():
    one = table(np.linspace(0.1, 4, len(BLOCKS)))
    found = compare_blocks(one, one)
    assert set(found.ratios.values()) == {1.0}
    assert set(found.differences.values()) == {0.0}


def test_the_worst_blocks_are_farthest_from_the_median_ratio_whichever_way():
    first, second = table([1.0] * 6), table([2.0, 2.0, 2.0, 1.0, 6.0, 2.0])  # all twice as slow, but for two
    worst = compare_blocks(first, second, worst=2).worst
    assert [(each.key, each.first_ms, each.second_ms, each.ratio) for each in worst] == [
        (BLOCKS[4].key, 1.0, 6.0, 6.0),
        (BLOCKS[3].key, 1.0, 1.0, 1.0),
    ]


def test_blocks_of_one_table_only_are_counted():
    found = compare_blocks(table([1.0] * 7), table([1.0] * 4))
    assert (found.blocks, found.only_first, found.only_second) == (4, 3, 0)


def test_tables_without_a_common_block_are_refused():
    with pytest.raises(ValueError, match="have no block in common"):
        compare_blocks(table([1.0]), LatencyTable(CONDITION, "chain", [Entry(BLOCKS[3], 1.0, "measured", None, 1, 3)]))
