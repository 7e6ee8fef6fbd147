from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luts.interpolation import SIDE, WIDTH, interpolate
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
