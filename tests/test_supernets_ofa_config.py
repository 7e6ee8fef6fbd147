from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supernets.blocks import make_divisible
from supernets.space import ArchitectureError, SearchSpace
from supernets.spaces import space
from supernets.spaces.ofa_config import from_ofa_config, to_ofa_config

FULL = {"ks": 7, "e": 6, "d": 4, "r": [224]}


@pytest.fixture
def w1_0() -> SearchSpace:
    return space("ofa-mobilenetv3-w1.0")


@pytest.mark.parametrize("dialect", ["tutorial", "package"])
@pytest.mark.parametrize(
    "name",
    [
        "ofa-mobilenetv3-w1.0",
        "ofa-mobilenetv3-w1.2",
        "ofa-mobilenetv3-tiny",
        "ofa-proxyless-w1.3",
        "ofa-proxyless-tiny",
        "ofa-resnet50",
        "ofa-resnet50-tiny",
        "ofa-resnet50-tiny-w0.5",
    ],
)
def test_both_dialects_round_trip(name: str, dialect: str) -> None:
    family = space(name)
    for architecture in [*family.decode(family.sample_population(50, np.random.default_rng(11))), family.smallest(), family.largest()]:
        assert from_ofa_config(family, to_ofa_config(family, architecture, dialect)) == architecture


def test_dialects_round_trip_in_a_restricted_space() -> None:
    narrowed = space("ofa-mobilenetv3-tiny").restrict({"kernel_size": (3, 5), "expand_ratio": (3,)})
    for architecture in narrowed.decode(narrowed.sample_population(20, np.random.default_rng(12))):
        assert from_ofa_config(narrowed, to_ofa_config(narrowed, architecture)) == architecture


def test_dialects_are_written_as_their_readers_expect(w1_0: SearchSpace) -> None:
    tutorial = to_ofa_config(w1_0, w1_0.smallest())
    assert tutorial == {"wid": None, "ks": ([3, 3, 7, 7] * 5), "e": ([3, 3, 6, 6] * 5), "d": [2] * 5, "r": [128]}
    package = to_ofa_config(w1_0, w1_0.largest(), "package")
    assert package == {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "image_size": 224}


def test_single_values_stand_for_every_slot(w1_0: SearchSpace) -> None:
    assert from_ofa_config(w1_0, FULL) == w1_0.largest()
    assert from_ofa_config(w1_0, {"ks": 3, "e": 3, "d": 2, "image_size": 128, "wid": None}) == w1_0.smallest()


def test_slots_beyond_the_depth_do_not_matter(w1_0: SearchSpace) -> None:
    shallow = {**FULL, "d": 2}
    other = {**shallow, "ks": [7, 7, 3, 5] * 5, "e": [6, 6, 3, 4] * 5}
    assert from_ofa_config(w1_0, shallow) == from_ofa_config(w1_0, other)


def test_unknown_dialect_is_refused(w1_0: SearchSpace) -> None:
    with pytest.raises(ValueError, match="dialect is 'torch'; expected 'tutorial'"):
        to_ofa_config(w1_0, w1_0.largest(), "torch")


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"width": 1}, "an OFA configuration has no key 'width'; expected ks, e, d and r"),
     ({"wid": 1.2}, "key 'wid' is 1.2; space 'ofa-mobilenetv3-w1.0' has one width, expected None"),
     ({"image_size": 224}, "gives the resolution once, as 'r': .224. or as 'image_size': 224"),
     ({"r": [192, 224]}, "key 'r' is .192, 224.; expected a list of one resolution"),
     ({"r": [130]}, "slot 'resolution' has the value 130"),
     ({"ks": [7] * 19}, "key 'ks' has 19 values; expected 20"),
     ({"d": [2, 3, 4, 5, 2]}, "slot 'stage4.depth' has the value 5; expected one of .2, 3, 4."),
     ({"ks": [7] * 6 + [9] + [7] * 13}, "slot 'stage2.block2.kernel_size' has the value 9; expected one of .3, 5, 7."),
     ({"e": [6] * 19 + [5]}, "slot 'stage5.block3.expand_ratio' has the value 5; expected one of .3, 4, 6.")],
)  # fmt: skip
def test_configuration_outside_the_space_is_refused_naming_the_slot(w1_0: SearchSpace, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        from_ofa_config(w1_0, {**FULL, **changed})


@pytest.mark.parametrize("key", ["ks", "e", "d", "r"])
def test_configuration_without_a_key_is_refused_naming_the_key(w1_0: SearchSpace, key: str) -> None:
    with pytest.raises(ArchitectureError, match=f"'{key}'"):
        from_ofa_config(w1_0, {name: value for name, value in FULL.items() if name != key})


# --- ProxylessNAS ------------------------------------------------------------------------------------------------------


def test_proxyless_has_twenty_one_blocks_and_a_last_depth_of_one() -> None:
    family = space("ofa-proxyless-w1.3")
    package = to_ofa_config(family, family.largest(), "package")
    assert package == {"ks": [7] * 21, "e": [6] * 21, "d": [4, 4, 4, 4, 4, 1], "image_size": 224}
    assert from_ofa_config(family, {**package, "d": 4}) == family.largest()


# --- ResNet50 ----------------------------------------------------------------------------------------------------------

RESNET = {"d": [2, 0, 1, 2, 0], "e": [0.2] * 9 + [0.35] * 9, "w": [2, 0, 1, 2, 0, 1], "image_size": 192}


@pytest.mark.parametrize("name", ["ofa-resnet50", "ofa-resnet50-tiny", "ofa-resnet50-tiny-w0.5"])
@pytest.mark.parametrize(("index", "multiplier"), [(0, 0.65), (1, 0.8), (2, 1.0)])
def test_a_width_index_is_the_same_multiplier_in_every_slot_also_where_two_give_one_width(name: str, index: int, multiplier: float) -> None:
    family = space(name)
    config = {**to_ofa_config(family, family.largest()), "w": index}
    largest, found = family.largest(), from_ofa_config(family, config)
    slots = [choice.name for choice in family.choices if choice.kind == "width"]
    assert {slot: found[slot] for slot in slots} == {slot: make_divisible(largest[slot] * multiplier) for slot in slots}
    corner = {0: family.smallest(), 2: family.largest()}.get(index)
    assert corner is None or set(to_ofa_config(family, corner)["w"]) == {index}


def test_resnet_configuration_gives_widths_by_index_and_depths_beyond_the_base() -> None:
    family = space("ofa-resnet50")
    architecture = from_ofa_config(family, RESNET)
    assert [architecture[f"stage{s}.width"] for s in range(1, 5)] == [208, 512, 664, 1640]
    assert (architecture["stem.inner_width"], architecture["stem.width"], architecture["stem.middle"]) == (32, 40, 1)
    blocks = [block.name for block in family.blocks(architecture) if block.name.startswith("stage")]
    assert [sum(name.startswith(f"stage{s}.") for name in blocks) for s in range(1, 5)] == [2, 3, 6, 2]
    written = to_ofa_config(family, architecture, "package")
    assert {key: written[key] for key in ("d", "w", "image_size")} == {key: RESNET[key] for key in ("d", "w", "image_size")}
    assert written["e"][:2] == [0.2] * 2 and len(written["e"]) == 18


def test_two_indices_of_the_stem_s_inner_width_are_one_network() -> None:
    family = space("ofa-resnet50")
    first, second = (from_ofa_config(family, {**RESNET, "w": [index, 0, 0, 0, 0, 0]}) for index in (0, 1))
    assert first == second
    assert to_ofa_config(family, first)["w"][0] == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"ks": 3}, "an OFA configuration has no key 'ks'; expected w, e, d and r"),
     ({"w": [3, 0, 0, 0, 0, 0]}, "key 'w' gives slot 'stem.inner_width' the index 3; expected 0 to 2"),
     ({"w": [0, 0, 0, 0, 0, -1]}, "key 'w' gives slot 'stage4.width' the index -1; expected 0 to 2, of .1328, 1640, 2048. channels"),
     ({"w": [0, 0, True, 0, 0, 0]}, "key 'w' gives slot 'stage1.width' the index True"),
     ({"d": [1, 0, 0, 0, 0]}, "the first value of key 'd' is 1; expected 0 .no middle convolution in the stem. or 2"),
     ({"d": [2, 0, 0, 3, 0]}, "slot 'stage3.extra_depth' has the value 3; expected one of .0, 1, 2."),
     ({"d": [2, 0, 0, 0]}, "key 'd' has 4 values; expected 5"),
     ({"e": 0.3}, "slot 'stage1.block0.expand_ratio' has the value 0.3")],
)  # fmt: skip
def test_resnet_configuration_outside_the_space_is_refused_naming_the_slot(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        from_ofa_config(space("ofa-resnet50"), {**RESNET, **changed})
