from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luts.condition import Condition
from luts.interpolation import SIDE, WIDTH, interpolate, with_interpolated
from luts.table import Entry, LatencyTable
from supernets.blocks import BlockSpec

BLOCK = BlockSpec("mbconv", 28, 40, 40, mid_channels=160, kernel_size=5, se_channels=40, activation="h_swish", residual=True)


def at(side, **changes):
    return replace(BLOCK, input_side=side, **changes)


def law(block, a=0.05, b=0.001):
    return a + b * block.input_side**2


def test_latencies_that_follow_the_law_are_found_exactly_between_two_sides():
    measured = {at(side): law(at(side)) for side in (14, 28)}
    wanted = [at(side) for side in range(15, 28)]
    found = interpolate(measured, wanted, "chain")
    assert [figure.key for figure in found] == [block.key for block in wanted]
    assert [figure.latency_ns / 1e6 for figure in found] == pytest.approx([law(block) for block in wanted])
    assert {figure.mode for figure in found} == {"chain"}


def test_each_figure_names_the_law_and_the_two_nearest_blocks_it_rests_on():
    measured = {at(side): law(at(side)) for side in (14, 20, 24, 28)}
    (figure,) = interpolate(measured, [at(23)], "alone")
    assert figure.source == {"law": "side", "blocks": [at(20).key, at(24).key]}


def test_nothing_is_told_beyond_the_measured_sides_nor_for_other_blocks():
    measured = {at(side): law(at(side)) for side in (14, 28)}
    beyond = [at(13), at(29), at(20, kernel_size=3), at(20, residual=False), at(20, activation="relu")]
    assert interpolate(measured, beyond, "chain") == []
    assert interpolate({at(14): 1.0}, [at(20)], "chain") == []
    assert interpolate({}, [at(20)], "chain") == []


def test_a_bend_at_a_measured_side_is_kept():
    measured = {at(14): 1.0, at(20): 4.0, at(28): 4.5}
    low, high = interpolate(measured, [at(17), at(24)], "chain")
    assert 1.0e6 < low.latency_ns < 4.0e6 < high.latency_ns < 4.5e6


def test_the_expected_error_is_none_with_two_sides_and_grows_with_the_distance_from_the_law():
    assert interpolate({at(14): 1.0, at(28): 4.0}, [at(20)], "chain")[0].relative_error is None
    sides = (14, 17, 20, 24, 28)
    rng = np.random.default_rng(0)
    errors = []
    for spread in (0.0, 0.02, 0.1):
        measured = {at(side): law(at(side)) * (1 + spread * rng.standard_normal()) for side in sides}
        errors.append(interpolate(measured, [at(21)], "chain")[0].relative_error)
    assert errors[0] == pytest.approx(0, abs=1e-12)
    assert errors[0] < errors[1] < errors[2]


def test_a_family_far_from_the_law_is_expected_to_be_further_off_than_one_that_follows_it():
    bent = {at(14, kernel_size=7): 1.0, at(20, kernel_size=7): 3.5, at(28, kernel_size=7): 4.0}
    measured = {at(side): law(at(side)) for side in (14, 20, 28)} | bent
    good, bad = interpolate(measured, [at(24), at(24, kernel_size=7)], "chain")
    assert 0 < good.relative_error < bad.relative_error


def test_the_width_between_expand_and_project_has_a_law_of_its_own():
    def wide(mid):
        return replace(BLOCK, mid_channels=mid, se_channels=mid // 4)

    measured = {wide(mid): 0.1 + 0.01 * mid for mid in (120, 240)}
    (figure,) = interpolate(measured, [wide(160)], "chain", WIDTH)
    assert figure.latency_ns == pytest.approx(1.7e6)
    assert figure.source["law"] == "width"
    assert interpolate(measured, [wide(160)], "chain", SIDE) == []


def test_a_block_without_expansion_or_without_squeeze_is_of_another_family_of_widths():
    measured = {replace(BLOCK, mid_channels=40): 1.0, replace(BLOCK, mid_channels=240): 4.0, replace(BLOCK, mid_channels=80, se_channels=0): 2.0}
    assert interpolate(measured, [BLOCK], "chain", WIDTH) == []


def table_of(latencies_ms, alone_ms):
    condition = Condition("d", "r", "1", "none", 1, (0,), 1, "float32", "paper")
    entries = [Entry(block, ms, "measured", 0.01, 20, 200) for block, ms in latencies_ms.items()]
    return LatencyTable(condition, "chain", entries, alone_ms={block.key: ms for block, ms in alone_ms.items()})


def test_a_table_is_completed_by_side_and_else_by_width_and_tells_which_entries_are_interpolated():
    def wide(mid, side=28):
        return replace(BLOCK, mid_channels=mid, se_channels=mid // 4, input_side=side)

    measured = {wide(mid, side): mid * law(at(side)) for mid in (120, 240) for side in (14, 28)}
    table = table_of(measured, {block: ms / 2 for block, ms in measured.items()})
    by_side, by_width, beyond = wide(240, 20), wide(160, 28), wide(160, 29)
    completed = with_interpolated(table, [*measured, by_side, by_width, beyond])
    assert completed.missing([by_side, by_width, beyond]) == [beyond]
    for block in (by_side, by_width):
        entry = completed.entry(block)
        assert (entry.origin, entry.visits, entry.samples) == ("interpolated", 0, 0)
        assert entry.latency_ms == pytest.approx(block.mid_channels * law(at(block.input_side)))
        assert completed.alone_ms[block.key] == pytest.approx(entry.latency_ms / 2)
    assert all(completed.entry(block) == table.entry(block) for block in measured)
    assert not table.alone_ms.keys() & {by_side.key, by_width.key}
