"""Once-for-All's feature vectors, by the positions its own programs give each value."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.ofa_encodings import RESNET_RESOLUTIONS, library_encoding, resnet_encoding, tutorial_encoding
from supernets.space import Architecture, SearchSpace
from supernets.spaces import space
from supernets.spaces.ofa_config import to_ofa_config


def sampled(family: SearchSpace, count: int = 30) -> list[Architecture]:
    return [family.smallest(), family.largest(), *family.decode(family.sample_population(count, np.random.default_rng(1)))]


def columns(features: np.ndarray) -> set[int]:
    """Return the columns that are one; all others are zero."""
    assert features.dtype == np.float32 and set(np.unique(features)) <= {0.0, 1.0}
    return set(np.flatnonzero(features).tolist())


def test_tutorial_encoding_has_128_columns_and_the_resolution_last() -> None:
    family = space("ofa-mobilenetv3-w1.2:resolutions=112:224:16")
    architectures = sampled(family)
    features = tutorial_encoding(family, architectures)
    assert features.shape == (len(architectures), 128)
    for row, architecture in zip(features, architectures, strict=True):
        config = to_ofa_config(family, architecture)
        on = [i for i in range(20) if i % 4 < config["d"][i // 4]]
        kernels = {3 * i + {3: 0, 5: 1, 7: 2}[config["ks"][i]] for i in on}
        expansions = {60 + 3 * i + {3: 0, 4: 1, 6: 2}[config["e"][i]] for i in on}
        assert columns(row) == kernels | expansions | {120 + (config["r"][0] - 112) // 16}


@pytest.mark.parametrize(("name", "blocks"), [("ofa-mobilenetv3-w1.0", 20), ("ofa-proxyless-w1.3", 21)])
def test_library_encoding_has_the_resolution_first(name: str, blocks: int) -> None:
    family = space(f"{name}:resolutions=160/176/192/208/224")
    architectures = sampled(family)
    features = library_encoding(family, architectures, (160, 176, 192, 208, 224))
    assert features.shape == (len(architectures), 5 + 6 * blocks)
    for row, architecture in zip(features, architectures, strict=True):
        config = to_ofa_config(family, architecture, "package")
        on = [i for i in range(blocks) if i % 4 < config["d"][i // 4]]
        kernels = {5 + 3 * i + [3, 5, 7].index(config["ks"][i]) for i in on}
        expansions = {5 + 3 * blocks + 3 * i + [3, 4, 6].index(config["e"][i]) for i in on}
        assert columns(row) == kernels | expansions | {(config["image_size"] - 160) // 16}


def test_resnet_encoding_has_82_columns() -> None:
    family = space("ofa-resnet50:resolutions=" + "/".join(map(str, RESNET_RESOLUTIONS)))
    architectures = sampled(family)
    features = resnet_encoding(family, architectures)
    assert features.shape == (len(architectures), 82)
    starts, bases = (0, 4, 8, 14), (2, 2, 4, 2)
    for row, architecture in zip(features, architectures, strict=True):
        config = to_ofa_config(family, architecture, "package")
        on = {RESNET_RESOLUTIONS.index(config["image_size"]), 8 + (config["d"][0] > 0)}
        on |= {10 + 3 * i + index for i, index in enumerate(config["w"])}
        for start, base, extra in zip(starts, bases, config["d"][1:], strict=True):
            on |= {28 + 3 * i + (0.2, 0.25, 0.35).index(config["e"][i]) for i in range(start, start + base + extra)}
        assert columns(row) == on


def test_a_resolution_without_a_column_is_refused() -> None:
    family = space("ofa-mobilenetv3-w1.2")
    with pytest.raises(ValueError, match="resolution 132 has no column in this encoding; expected one of 112, 128, 144, 160, 176, 192, 208, 224"):
        tutorial_encoding(family, [family.restrict({"resolution": (132,)}).largest()])
    with pytest.raises(ValueError, match="resolution 128 has no column in this encoding; expected one of 224"):
        library_encoding(family, [family.smallest()])


def test_a_space_of_another_family_is_refused() -> None:
    with pytest.raises(ValueError, match="space 'bignas-tiny' has choices of .*width; OFA's mobile encodings know"):
        tutorial_encoding(space("bignas-tiny"), [])
    with pytest.raises(ValueError, match="space 'ofa-mobilenetv3-tiny' has no ResNet encoding; expected ofa-resnet50"):
        resnet_encoding(space("ofa-mobilenetv3-tiny"), [])


def test_no_architectures_give_no_rows() -> None:
    assert len(tutorial_encoding(space("ofa-mobilenetv3-w1.2"), [])) == 0
