from __future__ import annotations

import math

import numpy as np
import pytest

from supernets import counts
from supernets.blocks import BlockSpec
from supernets.places import AdditiveCost, covering_architectures, distinct_blocks, places
from supernets.space import OFF
from supernets.spaces import space


@pytest.mark.parametrize("width", ["w1.0", "w1.2"])
@pytest.mark.parametrize(
    ("resolutions", "keys"),
    [("160:224:16", 450), ("128:224:16", 627), ("112:224:16", 710), ("160:224:4", 870), ("128:224:4", 1257), ("128:256:4", 1644)],
)
def test_space_has_as_many_different_blocks_as_published_tables_have_different_shapes(width: str, resolutions: str, keys: int) -> None:
    blocks = distinct_blocks(space(f"ofa-mobilenetv3-{width}:resolutions={resolutions}"))
    assert len(blocks) == len({block.key for block in blocks}) == keys


def test_places_stand_in_order_of_execution() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    assert [place.name for place in places(tiny)] == [block.name for block in tiny.blocks(tiny.largest())]


def test_place_holds_a_block_for_each_combination_of_its_choices() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    by_name = {place.name: place for place in places(tiny)}
    assert by_name["stem"].shape == (4,)
    assert by_name["stage2.block3"].shape == (4, 3, 3)
    assert all(None not in place.blocks for place in by_name.values())
    block = by_name["stage2.block0"].blocks[np.ravel_multi_index((3, 2, 0), (4, 3, 3))]
    assert block is not None
    assert (block.input_side, block.kernel_size, block.mid_channels) == (16, 7, 48)  # side 32, kernel 7, expansion 3


def test_place_of_a_block_that_is_off_points_behind_the_last_block() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    shallow = tiny.encode([tiny.smallest(), tiny.largest()])
    place = next(place for place in places(tiny) if place.name == "stage1.block3")
    assert place.rows(shallow).tolist() == [len(place.blocks), len(place.blocks) - 1]


def test_places_of_a_restricted_space_keep_their_codes_and_hold_nothing_else() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    narrowed = tiny.restrict({"kernel_size": (3, 7), "resolution": (28,), "depth": (2,)})
    whole = {place.name: place for place in places(tiny)}
    for place in places(narrowed):
        assert place.shape == whole[place.name].shape
        assert {block for block in place.blocks if block is not None} <= set(whole[place.name].blocks)
        kept = [(number, block) for number, block in enumerate(place.blocks) if block is not None]
        assert all(whole[place.name].blocks[number] == block for number, block in kept)
        assert len(kept) == (6 if place.name.startswith("stage") else 1)
    assert not any(place.name.endswith(("block2", "block3")) for place in places(narrowed))


def test_few_architectures_cover_every_combination_of_every_place() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    covering = tiny.encode(covering_architectures(tiny))
    assert len(covering) == 4 * 9  # each resolution with each kernel and expansion
    for place in places(tiny):
        combinations = {tuple(row) for row in covering[:, list(place.columns)].tolist() if OFF not in row}
        assert len(combinations) == math.prod(place.shape), place.name


def test_neighbouring_places_of_a_covering_architecture_differ() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    for architecture in covering_architectures(tiny):
        kernels = [architecture[f"stage2.block{b}.kernel_size"] for b in range(4)]
        expansions = [architecture[f"stage2.block{b}.expand_ratio"] for b in range(4)]
        assert len(set(zip(kernels, expansions, strict=True))) == 4


def test_distinct_blocks_come_once_whatever_their_place() -> None:
    tiny = space("ofa-mobilenetv3-tiny:resolutions=28")
    blocks = distinct_blocks(tiny)
    assert len(blocks) == len(set(blocks))
    inner = [block for block in blocks if block.name.startswith("stage1.") and block.name != "stage1.block0"]
    assert {block.name for block in inner} == {"stage1.block1"}  # blocks 1, 2 and 3 of a stage compute the same


def test_each_block_is_asked_for_its_figure_once() -> None:
    tiny = space("ofa-mobilenetv3-tiny:resolutions=28")
    asked: list[BlockSpec] = []

    def figure(block: BlockSpec) -> float:
        asked.append(block)
        return 1.0

    cost = AdditiveCost(tiny, figure)
    assert len(asked) == len(set(asked)) == len(distinct_blocks(tiny))
    population = tiny.sample_population(50, np.random.default_rng(9))
    assert cost(population).tolist() == [len(tiny.blocks(architecture)) for architecture in tiny.decode(population)]


def test_block_without_a_figure_shows_as_not_a_number_exactly_where_it_is_used() -> None:
    tiny = space("ofa-mobilenetv3-tiny:resolutions=28")
    missing = next(block for block in distinct_blocks(tiny) if block.name == "stage3.block1" and block.kernel_size == 7)
    cost = AdditiveCost(tiny, lambda block: math.nan if block == missing else counts.block_macs(block))
    population = tiny.sample_population(200, np.random.default_rng(10))
    expected = [missing in tiny.blocks(architecture) for architecture in tiny.decode(population)]
    assert np.isnan(cost(population)).tolist() == expected
    assert 0 < sum(expected) < 200


def test_cost_of_no_architectures_is_empty() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    assert AdditiveCost(tiny, counts.block_macs)(tiny.encode([])).shape == (0,)


# --- places that share choices -----------------------------------------------------------------------------------------


def test_place_of_a_shared_choice_holds_what_its_own_combination_gives() -> None:
    family = space("bignas-tiny:resolutions=28")
    by_name = {place.name: place for place in places(family)}
    place = by_name["stage3.block0"]
    assert [family.choices[column].name for column in place.columns] == ["resolution", "stage2.width", "stage3.width", "stage3.kernel_size"]
    assert (place.shape, place.absent, None in place.blocks) == ((1, 2, 3, 2), (), False)
    block = place.blocks[np.ravel_multi_index((0, 1, 2, 0), place.shape)]
    assert block is not None and (block.in_channels, block.out_channels, block.kernel_size) == (32, 64, 3)


def test_place_that_a_depth_removes_is_absent_there_and_unknown_nowhere() -> None:
    family = space("bignas-tiny:resolutions=28")
    place = next(place for place in places(family) if place.name == "stage2.block2")
    depth = [family.choices[column].name for column in place.columns].index("stage2.depth")
    depths = np.array(np.unravel_index(np.arange(len(place.blocks)), place.shape))[depth]
    assert [position for position, block in enumerate(place.blocks) if block is None] == sorted(place.absent) == np.flatnonzero(depths < 2).tolist()
    population = family.sample_population(100, np.random.default_rng(1))
    present = ["stage2.block2" in [block.name for block in family.blocks(architecture)] for architecture in family.decode(population)]
    assert ((place.rows(population) < len(place.blocks)) == present).all() and 0 < sum(present) < 100


def test_place_counts_a_choice_that_is_off_as_one_more_value_where_the_block_stays() -> None:
    family = space("mnasnet-tiny")
    place = next(place for place in places(family) if place.name == "stage2.block0")
    off = {family.choices[column].name: counts_off for column, counts_off in zip(place.columns, place.off_counts, strict=True)}
    assert {name for name, counts_off in off.items() if counts_off} == {"stage2.skip", "stage2.lone_skip"}
    population = family.sample_population(200, np.random.default_rng(2))
    rows = place.rows(population)
    assert all(place.blocks[row] == family.blocks(a)[1 + a["stage1.depth"]] for row, a in zip(rows, family.decode(population), strict=True))


@pytest.mark.parametrize(
    "name", ["bignas-tiny:resolutions=28", "bignas:resolutions=192", "mnasnet-tiny", "ofa-resnet50:resolutions=128", "repvgg-tiny"]
)
def test_covering_architectures_are_about_as_few_as_the_place_with_the_most_combinations_needs(name: str) -> None:
    family = space(name)
    most = max(math.prod(place.shape) for place in places(family))
    assert len(covering_architectures(family)) <= 1.5 * most
    covered = {block for architecture in covering_architectures(family) for block in family.blocks(architecture)}
    for architecture in family.decode(family.sample_population(200, np.random.default_rng(3))):
        assert covered.issuperset(family.blocks(architecture))


def test_cost_of_a_restricted_space_is_that_of_the_whole_one() -> None:
    family = space("mnasnet-tiny")
    narrowed = family.restrict({"stage2.depth": (1,), "stage3.depth": (2, 3), "convolution": ("sepconv", "conv")})
    population = narrowed.sample_population(100, np.random.default_rng(4))
    expected = AdditiveCost(family, counts.block_macs)(population)
    assert AdditiveCost(narrowed, counts.block_macs)(population).tolist() == expected.tolist()
    outside = family.encode([narrowed.largest()])
    outside[:, [family.position["stage2.depth"], family.position["stage2.skip"], family.position["stage2.lone_skip"]]] = (1, 1, OFF)  # depth 2
    assert np.isnan(AdditiveCost(narrowed, counts.block_macs)(outside)).all()
