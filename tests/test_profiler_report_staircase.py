from __future__ import annotations

from collections.abc import Callable

import pytest

from luts.table import Condition, Entry, LatencyTable
from profiler.report import staircase
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

SPACE = space("ofa-mobilenetv3-w1.2").restrict({"resolution": (128, 144, 160, 176, 192)})
CONDITION = Condition(device="local", runtime="onnxruntime", runtime_version="1", delegate="cpu", threads=1, cores=(0,), batch=1, precision="float32",
                      cpu_model="some")  # fmt: skip


def of(latency_ms: Callable[[BlockSpec], float]) -> staircase.Staircase:
    entries = [Entry(block, latency_ms(block), "measured", 0.01, 20, 300) for block in distinct_blocks(SPACE)]
    found = staircase.staircase(SPACE, LatencyTable(CONDITION, "chain", entries))
    assert found is not None
    return found


def by_macs(block: BlockSpec) -> float:
    return 1e-3 + block_macs(block) / 1e7


def test_latencies_that_follow_macs_have_no_unexplained_step() -> None:
    found = of(by_macs)
    assert not found.steps
    assert "MACs explain the steps" in staircase.sentence(found)
    smallest, _, largest = found.networks
    assert all(one < other for one, other in zip(smallest.latencies_ms, largest.latencies_ms, strict=True))


def test_a_block_that_climbs_beyond_its_macs_is_found_with_its_side() -> None:
    found = of(lambda block: by_macs(block) * (1.5 if block.operator == "mbconv" and block.input_side >= 80 else 1.0))
    assert {(step.from_side, step.to_side) for step in found.steps} == {(72, 80)}
    assert found.steps[0].time_a_mac == pytest.approx(1.5, rel=0.02)
    assert "from side 72 to 80 a multiply-add takes 1.5" in staircase.sentence(found)


def test_one_wrong_figure_is_no_step() -> None:
    assert not of(lambda block: by_macs(block) * (1.5 if block.input_side == 80 else 1.0)).steps


def test_the_resolutions_before_steep_steps_are_told() -> None:
    steep = {128: 1.0, 144: 1.1, 160: 2.0, 176: 2.2, 192: 2.4}
    networks = tuple(staircase.NetworkStairs(name, tuple(steep.values()), (1, 2, 3, 4, 5)) for name in ("smallest", "random", "largest"))
    found = staircase.Staircase(tuple(steep), networks, 0, ())
    assert staircase.bargains(found) == [144]
    text = staircase.sentence(found)
    assert "The steepest step is from 144 to 160 pixels a side: the largest network takes 81.8" in text and "right after 144" in text


def test_fewer_than_three_resolutions_make_no_staircase() -> None:
    narrow = SPACE.restrict({"resolution": (128, 192)})
    entries = [Entry(block, by_macs(block), "measured", 0.01, 20, 300) for block in distinct_blocks(narrow)]
    assert staircase.staircase(narrow, LatencyTable(CONDITION, "chain", entries)) is None
