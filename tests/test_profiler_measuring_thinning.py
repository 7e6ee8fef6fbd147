from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler.measuring.thinning import CHECKED_SHARE, TOLERANCE, thin, thinned_resolutions
from supernets.places import distinct_blocks
from supernets.spaces import space

OFA = space("ofa-mobilenetv3-w1.2")
TINY = space("ofa-mobilenetv3-tiny:resolutions=16/20/24/28/32/36/40")


def by_law(block):
    return 0.01 + 1e-4 * block.input_side**2


def latencies(thinning, cost=by_law):
    """What measuring the thinning's subnets tells."""
    return {block: cost(block) for architecture in thinning.architectures for block in thinning.space.blocks(architecture)}


def test_the_resolutions_reach_both_ends_and_grow_by_few_steps_in_area():
    chosen = thinned_resolutions(OFA)
    assert chosen == (128, 156, 184, 224)
    areas = np.square(chosen)
    assert (areas[1:] / areas[:-1]).max() < 1.65


def test_the_resolutions_cover_every_side_of_the_deepest_stage():
    chosen = OFA.restrict({"resolution": thinned_resolutions(OFA)})
    deepest = max(block.in_channels for block in distinct_blocks(OFA) if block.residual)
    assert {block.input_side for block in distinct_blocks(chosen) if block.residual and block.in_channels == deepest} == {4, 5, 6, 7}


def test_a_space_of_one_resolution_or_without_any_to_skip_is_refused():
    for resolutions in ((20,), (20, 24)):
        with pytest.raises(ValueError, match="without --thin"):
            thin(TINY.restrict({"resolution": resolutions}))


def test_the_subnets_to_measure_hold_all_blocks_of_the_full_resolutions_and_checks_of_the_others():
    thinning = thin(OFA, seed=3)
    held = set(latencies(thinning))
    assert thinning.blocks <= held
    assert thinning.blocks | set(thinning.skipped) == set(distinct_blocks(OFA)) and not thinning.blocks & set(thinning.skipped)
    checked = held - thinning.blocks
    assert len(thinning.skipped) * CHECKED_SHARE <= len(checked) < len(thinning.skipped) * (CHECKED_SHARE + 0.04)
    assert not {check["resolution"] for check in thinning.checks} & set(thinning.resolutions)
    assert len(held) < 0.4 * len(distinct_blocks(OFA))


def test_the_same_seed_draws_the_same_checks_and_another_seed_others():
    assert thin(TINY, 1).checks == thin(TINY, 1).checks
    assert thin(OFA, 1).checks != thin(OFA, 2).checks


def test_where_the_law_holds_no_check_misses_and_nothing_further_is_measured():
    thinning = thin(TINY)
    checks = thinning.spot_checks(latencies(thinning))
    assert {check.block for check in checks} == set(latencies(thinning)) - thinning.blocks
    assert all(check.miss == pytest.approx(0, abs=1e-12) and not check.missed for check in checks)
    assert thinning.further(checks) == ()


def test_a_miss_of_more_than_three_per_cent_has_the_block_measured_at_all_sides_of_the_gap_it_was_in():
    thinning = thin(OFA)
    odd = next(check.block for check in thinning.spot_checks(latencies(thinning)) if 32 < check.block.input_side < 56)

    def with_one_off(by):
        return thinning.spot_checks(latencies(thinning, lambda block: by_law(block) * (1 + by * (block == odd))))

    assert thinning.further(with_one_off(0.9 * TOLERANCE)) == ()
    checks = with_one_off(1.2 * TOLERANCE)
    (missed,) = [check for check in checks if check.missed]
    assert missed.block == odd and missed.miss == pytest.approx(1 / (1 + 1.2 * TOLERANCE) - 1)
    low, high = missed.between
    further = thinning.further(checks)
    held = {block for architecture in further for block in OFA.blocks(architecture)}
    assert {block.input_side for block in held if replace(block, input_side=odd.input_side) == odd} == set(range(low + 1, high)) - {odd.input_side}
    assert len(further) == high - low - 2  # one subnet a side
