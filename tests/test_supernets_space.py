from __future__ import annotations

import numpy as np
import pytest
from contracts import SpaceContract
from hypothesis import given
from hypothesis import strategies as st

from supernets.blocks import BlockSpec
from supernets.space import OFF, Architecture, ArchitectureError, Choice, SearchSpace, unique_rows
from supernets.spaces import SpaceOptions, UnknownSpaceError, names, parse_name, parse_resolutions, space


def one_free_stage(stages: int, resolutions: tuple[int, ...]) -> dict[str, tuple[int | float | str, ...]]:
    """Restrict a MobileNetV3 space to its first stage's kernels and depths, and its last block's expansion."""
    fixed: dict[str, tuple[int | float | str, ...]] = {"resolution": resolutions, "stage1.depth": (2, 4)}
    for stage in range(2, stages + 1):
        fixed[f"stage{stage}.depth"] = (2,)
    for stage in range(1, stages + 1):
        for block in range(4):
            fixed[f"stage{stage}.block{block}.kernel_size"] = (3, 7) if stage == 1 else (5,)
            fixed[f"stage{stage}.block{block}.expand_ratio"] = (3, 4, 6) if (stage, block) == (stages, 1) else (4,)
    return fixed


class TestOfaMobileNetV3Width10(SpaceContract):
    name = "ofa-mobilenetv3-w1.0"
    small = one_free_stage(5, (128, 224))


class TestOfaMobileNetV3Width12(SpaceContract):
    name = "ofa-mobilenetv3-w1.2"
    small = one_free_stage(5, (160, 176))


class TestOfaMobileNetV3Tiny(SpaceContract):
    name = "ofa-mobilenetv3-tiny"
    small = one_free_stage(3, (20, 32))


class TestOfaMobileNetV3TinyInColour(SpaceContract):
    name = "ofa-mobilenetv3-tiny:resolutions=24/32/48,image_channels=3,classes=37"
    small = one_free_stage(3, (24, 48))


# --- any space: a tree of choices ------------------------------------------------------------------------------------


def no_blocks(architecture: Architecture) -> list[BlockSpec]:
    return []


@st.composite
def search_spaces(draw: st.DrawFn) -> SearchSpace:
    """Return a space of two to five choices, some switched by an earlier one (which may be switched itself)."""
    choices: list[Choice] = []
    for number in range(draw(st.integers(2, 5))):
        values = tuple(range(1, draw(st.integers(1, 3)) + 1))
        controller = draw(st.none() | st.sampled_from(choices)) if choices else None
        on_for = tuple(draw(st.sets(st.sampled_from(controller.values)))) if controller else ()
        allowed = tuple(draw(st.sets(st.sampled_from(values))))
        choices.append(Choice(f"slot{number}", values, controller and controller.name, on_for, allowed))
    return SearchSpace("toy", tuple(choices), no_blocks, {})


@given(search_spaces())
def test_size_of_any_space_is_the_number_of_its_networks(toy: SearchSpace) -> None:
    architectures = list(toy.enumerate())
    assert toy.size() == len(architectures) == len(set(architectures))
    assert set(toy.decode(toy.sample_different(1000, np.random.default_rng(0)))) == set(architectures)


@given(search_spaces(), st.integers(0, 2**32), st.floats(0, 1))
def test_operators_of_any_space_stay_in_the_space_and_canonical(toy: SearchSpace, seed: int, probability: float) -> None:
    rng = np.random.default_rng(seed)
    population = toy.sample_population(20, rng)
    mutants = toy.mutate_population(population, rng, probability)
    children = toy.crossover_populations(population, mutants, rng)
    everything = set(toy.enumerate())
    for changed in (population, mutants, children):
        assert changed.dtype == np.int8
        assert set(toy.decode(changed)) <= everything
        assert np.array_equal(toy.encode(toy.decode(changed)), changed)
    for architecture in toy.decode(population[:5]):
        assert set(toy.neighbours(architecture)) <= everything - {architecture}


@given(search_spaces(), st.integers(0, 2**32))
def test_values_of_slots_that_are_off_do_not_tell_architectures_apart(toy: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = toy.sample(rng)
    filled = {c.name: c.values[rng.integers(len(c.values))] if architecture[c.name] is None else architecture[c.name] for c in toy.choices}
    assert toy.architecture(filled) == architecture
    assert hash(toy.architecture(filled)) == hash(architecture)


def toy_space() -> SearchSpace:
    """Return a space in which `depth` switches the second block's kernel: 2 * (3 + 3 * 3) networks."""
    return SearchSpace(
        "toy", (Choice("side", (16, 32)), Choice("depth", (1, 2)), Choice("block0.kernel_size", (3, 5, 7)),
                Choice("block1.kernel_size", (3, 5, 7), "depth", (2,))), no_blocks, {}
    )  # fmt: skip


def test_size_counts_switched_choices_only_where_they_are_on() -> None:
    assert toy_space().size() == 2 * (3 + 3 * 3)


def test_space_sizes_are_those_of_the_papers_formula() -> None:
    assert space("ofa-mobilenetv3-w1.0").size() == 25 * (9**2 + 9**3 + 9**4) ** 5
    assert space("ofa-mobilenetv3-tiny").size() == 4 * (9**2 + 9**3 + 9**4) ** 3


def test_enumeration_is_in_lexical_order_of_values() -> None:
    first, second, *_ = toy_space().enumerate()
    assert dict(first.values) == {"side": 16, "depth": 1, "block0.kernel_size": 3, "block1.kernel_size": None}
    assert dict(second.values) == {"side": 16, "depth": 1, "block0.kernel_size": 5, "block1.kernel_size": None}


def test_every_value_of_a_slot_is_drawn_equally_often() -> None:
    population = toy_space().sample_population(6000, np.random.default_rng(5))
    kernels = np.bincount(population[:, 2])
    assert np.all(np.abs(kernels - 2000) < 5 * np.sqrt(6000 * 2 / 9))  # five standard deviations of a binomial draw
    assert np.mean(population[:, 3] == OFF) == pytest.approx(0.5, abs=0.04)


def test_mutation_with_a_probability_for_each_kind_leaves_other_kinds_alone() -> None:
    toy = toy_space()
    population = toy.encode([toy.largest()] * 200)
    mutants = toy.mutate_population(population, np.random.default_rng(6), {"kernel_size": 1.0})
    assert np.all(mutants[:, :2] == population[:, :2])
    assert set(mutants[:, 2]) == set(mutants[:, 3]) == {0, 1, 2}


def test_mutation_draws_slots_it_switches_on() -> None:
    toy = toy_space()
    mutants = toy.mutate_population(toy.encode([toy.smallest()] * 300), np.random.default_rng(7), {"depth": 1.0})
    switched_on = mutants[mutants[:, 1] == 1]
    assert set(switched_on[:, 3]) == {0, 1, 2}


def test_neighbours_of_a_switching_choice_start_its_slots_at_the_smallest() -> None:
    toy = toy_space()
    neighbours = [dict(n.values) for n in toy.neighbours(toy.smallest())]
    assert neighbours == [
        {"side": 32, "depth": 1, "block0.kernel_size": 3, "block1.kernel_size": None},
        {"side": 16, "depth": 2, "block0.kernel_size": 3, "block1.kernel_size": 3},
        {"side": 16, "depth": 1, "block0.kernel_size": 5, "block1.kernel_size": None},
        {"side": 16, "depth": 1, "block0.kernel_size": 7, "block1.kernel_size": None},
    ]


def test_restriction_by_kind_narrows_every_choice_of_the_kind_and_by_name_one() -> None:
    narrowed = toy_space().restrict({"kernel_size": (7, 3), "block0.kernel_size": (7,)})
    assert [choice.allowed for choice in narrowed.choices] == [(16, 32), (1, 2), (7,), (3, 7)]
    assert narrowed.size() == 2 * (1 + 2)
    assert dict(narrowed.largest().values)["block1.kernel_size"] == 7
    with pytest.raises(ArchitectureError, match="slot 'block1.kernel_size' has the value 5; expected one of .3, 7."):
        narrowed.architecture({"side": 16, "depth": 2, "block0.kernel_size": 7, "block1.kernel_size": 5})


def test_restriction_says_nothing_about_slots_that_are_off() -> None:
    narrowed = toy_space().restrict({"kernel_size": (3,)})
    assert narrowed.architecture({"side": 16, "depth": 1, "block0.kernel_size": 3, "block1.kernel_size": 7}) == narrowed.smallest()


@pytest.mark.parametrize(
    ("allowed", "said"),
    [({"width": (1,)}, "no choice or kind of choice 'width'; its kinds are depth, kernel_size, side"),
     ({"kernel_size": (3, 9)}, "'block0.kernel_size' cannot be restricted to .3, 9.; its values are .3, 5, 7."),
     ({"depth": ()}, "'depth' cannot be restricted to ..; its values are .1, 2.")],
)  # fmt: skip
def test_impossible_restriction_is_refused(allowed: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        toy_space().restrict(allowed)


def test_value_is_taken_as_the_choice_writes_it_and_truth_values_are_no_numbers() -> None:
    values = {"side": 16.0, "depth": np.int64(1), "block0.kernel_size": 3}
    assert [type(value) for value in toy_space().architecture(values).values.values()] == [int, int, int, type(None)]
    with pytest.raises(ArchitectureError, match="slot 'depth' has the value True"):
        toy_space().architecture({**values, "depth": True})


@pytest.mark.parametrize(
    ("values", "said"),
    [({"side": 16, "depth": 1, "block0.kernel_size": 3, "block1.kernel_size": 3}, "slot 'block1.kernel_size' has a value though it is switched off"),
     ({"side": 16, "depth": 2, "block0.kernel_size": 3}, "slot 'block1.kernel_size' has no value"),
     ({"side": 16, "depth": 1, "block0.kernel_size": 4}, "slot 'block0.kernel_size' has the value 4; expected one of .3, 5, 7.")],
)  # fmt: skip
def test_architecture_that_is_not_canonical_is_not_encoded(values: dict[str, int], said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        toy_space().encode([Architecture("toy", values)])


@pytest.mark.parametrize("data", [[], {"space": "toy"}, {"space": "toy", "values": [1]}, {"space": "toy", "values": {}, "more": 1}])
def test_mapping_that_is_no_architecture_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError, match=r"an architecture is \{'space': NAME, 'values': \{CHOICE: VALUE, …\}\}, but this one is"):
        Architecture.from_dict(data)


def test_architecture_cannot_be_changed() -> None:
    architecture = toy_space().largest()
    with pytest.raises(TypeError):
        architecture.values["side"] = 16  # type: ignore[index]


@pytest.mark.parametrize("values", [(), (3, 3), tuple(range(128))])
def test_choice_refuses_values_it_cannot_number(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="values of choice 'kernel_size' are"):
        Choice("kernel_size", values)


def test_allowed_values_are_kept_in_order_of_the_values() -> None:
    assert Choice("kernel_size", (3, 5, 7), allowed=(7, 3, 7)).allowed == (3, 7)


def test_space_refuses_choices_in_an_impossible_order() -> None:
    depth, block = Choice("depth", (1, 2)), Choice("block", (3, 5), "depth", (2,))
    with pytest.raises(ValueError, match="'block' depends on 'depth', which must come before it"):
        SearchSpace("toy", (block, depth), no_blocks, {})
    with pytest.raises(ValueError, match="'depth' of space 'toy' is given twice"):
        SearchSpace("toy", (depth, depth), no_blocks, {})


def test_unique_rows_keep_the_order_of_first_appearance() -> None:
    population = np.array([[2, 1], [-1, 0], [2, 1], [0, 0]], dtype=np.int8)
    assert unique_rows(population).tolist() == [[2, 1], [-1, 0], [0, 0]]


# --- names and options ------------------------------------------------------------------------------------------------


def test_unknown_space_names_the_known_ones() -> None:
    with pytest.raises(UnknownSpaceError, match=r"^unknown space 'ofa-mobilenet'; known spaces: .*ofa-mobilenetv3-tiny.*") as caught:
        space("ofa-mobilenet")
    assert isinstance(caught.value, KeyError)
    assert "ofa-mobilenetv3-w1.2" in names()


@pytest.mark.parametrize(
    ("text", "sides"),
    [("160", (160,)), ("224/128/160/128", (128, 160, 224)), ("128,160", (128, 160)), ("128:140:4", (128, 132, 136, 140)),
     ("128:136", (128, 132, 136)), ("32:32:4", (32,))],
)  # fmt: skip
def test_resolutions_are_read_in_each_notation(text: str, sides: tuple[int, ...]) -> None:
    assert parse_resolutions(text) == sides


@pytest.mark.parametrize("text", ["", "large", "128:225:4", "128:224:0", "128:224:4:4", "128:", "1.5"])
def test_text_that_gives_no_resolutions_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"resolutions are given as .*; expected 128:224:4 \(first:last:step\), 160/192/224, or 160"):
        parse_resolutions(text)


@pytest.mark.parametrize(
    "name",
    [
        "tiny:",
        "tiny:classes=5,",
        "tiny:colour=3",
        "tiny:classes",
        "tiny:classes=many",
        "tiny:classes=-3",
        "tiny:image_channels=3.0",
        "tiny:classes=²",
        "tiny:=3",
    ],
)
def test_option_that_is_not_understood_is_refused_with_examples(name: str) -> None:
    with pytest.raises(ValueError, match="of space '.*' is not understood; expected resolutions=128:224:4, image_channels=3 or classes=37"):
        parse_name(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"image_channels": 2}, "image_channels is 2; expected 1"), ({"classes": 1}, "classes is 1; expected 2 to 100000"),
     ({"resolutions": ()}, "resolutions is empty")],
)  # fmt: skip
def test_option_out_of_range_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SpaceOptions(**options)  # type: ignore[arg-type]


def test_side_that_does_not_fit_the_space_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution 30 does not fit space 'ofa-mobilenetv3-tiny'; expected a positive multiple of 4"):
        space("ofa-mobilenetv3-tiny:resolutions=28/30")


def test_equal_spaces_have_equal_names_however_they_were_asked_for() -> None:
    assert space("ofa-mobilenetv3-w1.0:resolutions=128:224:4,classes=1000,image_channels=3").name == "ofa-mobilenetv3-w1.0"
    written = "ofa-mobilenetv3-tiny:resolutions=24/32,image_channels=3,classes=37"
    assert space("ofa-mobilenetv3-tiny:classes=37,resolutions=32/24/24,image_channels=3").name == written
    assert space(space(written).name).name == written


def test_options_reach_the_network() -> None:
    coloured = space("ofa-mobilenetv3-tiny:resolutions=48,image_channels=3,classes=37")
    blocks = coloured.blocks(coloured.largest())
    assert (blocks[0].input_side, blocks[0].in_channels, blocks[-1].out_channels) == (48, 3, 37)


def test_spaces_of_one_name_and_the_same_choices_are_equal_and_can_be_keys() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    assert {tiny: 1}[space("ofa-mobilenetv3-tiny")] == 1
    others = (tiny.restrict({"resolution": [20]}), space("ofa-mobilenetv3-tiny:classes=5"), space("ofa-mobilenetv3-w1.0"))
    assert len({tiny, *others}) == 4
    assert tiny.restrict({"resolution": [20, 24, 28, 32]}) == tiny


def test_a_larger_draw_of_different_networks_begins_with_a_smaller_one() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    small, large = (tiny.sample_different(count, np.random.default_rng(3)) for count in (1500, 5000))
    assert np.array_equal(large[:1500], small)
    assert len(unique_rows(large)) == 5000
