from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supernets.space import ArchitectureError, SearchSpace
from supernets.spaces import space
from supernets.spaces.ofa_config import from_ofa_config, to_ofa_config

FULL = {"ks": 7, "e": 6, "d": 4, "r": [224]}


@pytest.fixture
def w1_0() -> SearchSpace:
    return space("ofa-mobilenetv3-w1.0")


@pytest.mark.parametrize("dialect", ["tutorial", "package"])
@pytest.mark.parametrize("name", ["ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2", "ofa-mobilenetv3-tiny"])
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
