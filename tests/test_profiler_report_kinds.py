from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luts.table import Entry, LatencyTable
from profiler.report import kinds
from profiler.report.kinds import FEWEST_TWINS, BlockKinds, block_kinds
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

SHIPPED = sorted((Path(__file__).parent.parent / "luts" / "data").glob("*.lut"))
SPACE = space("ofa-mobilenetv3-w1.2").restrict({"resolution": (128, 160, 192)})


def of(ns_a_mac: Callable[[BlockSpec], float], noise: float = 0.05) -> BlockKinds:
    """Return the kinds of a table in which blocks take this long a multiply-add, give or take the noise."""
    rng = np.random.default_rng(0)
    entries = [
        Entry(block, ns_a_mac(block) * block_macs(block) / 1e6 * rng.lognormal(0, noise), "measured", noise, 20, 300)
        for block in distinct_blocks(SPACE) if block_macs(block)
    ]  # fmt: skip
    found = block_kinds(entries)
    assert found is not None
    return found


def test_a_cliff_of_the_kernel_is_found_and_told_with_its_numbers() -> None:
    found = of(lambda block: 0.5 if block.kernel_size == 7 else 0.1)
    assert [(step.changed, step.low, step.high) for step in found.misleading] == [("kernel", "5×5", "7×7")]
    assert found.misleading[0].time_a_mac == pytest.approx(5, rel=0.02)
    assert [curve.value for curve in found.curves] == ["kernel 3×3", "kernel 5×5", "kernel 7×7"]
    text = kinds.sentence(found, "measured")
    assert text.startswith("FLOPs mislead most about the kernel: 7×7 takes 5.")
    assert "A multiply-add there takes 5.0 times as long (median of " in text


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_property_that_makes_blocks_cheaper_misleads_as_well(ratio: float) -> None:
    found = of(lambda block: 0.1 * ratio if block.operator == "mbconv" and block.mid_channels == 6 * block.in_channels else 0.1)
    assert [(step.changed, step.low, step.high) for step in found.misleading] == [("expansion", "4", "6")]
    assert found.misleading[0].time_a_mac == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_where_every_multiply_add_takes_as_long_nothing_is_claimed_however_noisy(noise: float) -> None:
    found = of(lambda block: 0.1, noise)
    assert not found.misleading
    assert "FLOPs are a fair guide" in kinds.sentence(found, "measured")


def test_blocks_of_different_sizes_may_differ_without_any_property_being_blamed() -> None:
    """Small images waste time everywhere: that is no property's doing."""
    assert not of(lambda block: 0.1 * (1 + 20 / block.input_side)).misleading


def test_few_twins_claim_nothing() -> None:
    blocks = [block for block in distinct_blocks(SPACE) if block.kernel_size == 3 and block.operator == "mbconv"][: FEWEST_TWINS - 1]
    pairs = [(replace(block, kernel_size=size), 3.0 ** (size > 3)) for block in blocks for size in (3, 5)]
    found = block_kinds(Entry(block, time * block_macs(block) / 1e6, "measured", 0.01, 20, 300) for block, time in pairs)
    assert found is not None and not found.misleading
    assert found.steps[0].time_a_mac == pytest.approx(3) and not found.steps[0].fair
    assert "too few to say where FLOPs mislead" in kinds.sentence(found, "measured")


def test_a_change_that_is_large_but_not_sure_is_called_neither_fair_nor_misleading() -> None:
    found = of(lambda block: 0.1 * (1.3 if block.kernel_size == 7 else 1.0), noise=0.5)
    step = next(step for step in found.steps if step.high == "7×7")
    assert not step.misleading and not step.fair
    assert "mislead nowhere for sure" in kinds.sentence(found, "measured")


def test_a_table_without_twins_or_multiply_adds_says_so() -> None:
    block = next(block for block in distinct_blocks(SPACE) if block_macs(block))
    found = block_kinds([Entry(block, 1.0, "measured", 0.01, 20, 300)])
    assert found is not None and not found.steps
    assert "No two blocks of the table differ in one property only" in kinds.sentence(found, "measured")
    pool = next(block for block in distinct_blocks(SPACE) if block.operator == "pool")
    assert block_kinds([Entry(pool, 1.0, "measured", 0.01, 20, 300)]) is None


def test_the_shipped_tables_show_the_cliff_of_litert_and_none_of_onnxruntime() -> None:
    found = {}
    for path in SHIPPED:
        table = LatencyTable.open(path)
        found[table.condition.runtime] = block_kinds(table.entries.values())
    litert, onnxruntime = found["litert"], found["onnxruntime"]
    assert litert is not None and onnxruntime is not None
    assert [(step.changed, step.low, step.high) for step in litert.misleading] == [("kernel", "5×5", "7×7")]
    cliff = litert.misleading[0]
    assert 7.0 < cliff.latency < 7.5 and cliff.macs == pytest.approx(1.12, abs=0.005) and 6.0 < cliff.time_a_mac < 6.6
    assert not onnxruntime.misleading
    assert "fair guide" in kinds.sentence(onnxruntime, "measured")
