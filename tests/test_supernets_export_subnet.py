# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Cutting one subnet out of a supernet, or out of weights that are one network's alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.export.subnet import cut_subnet
from supernets.networks.calibration import calibrate
from supernets.networks.functional import forward, running_norm
from supernets.networks.supernet import Supernet
from supernets.space import ArchitectureError

pytestmark = pytest.mark.torch

SPACE = spaces.space("ofa-mobilenetv3-tiny:resolutions=12/16,classes=3")
NETWORK = SPACE.smallest()


def batches(side: int = 12) -> list[torch.Tensor]:
    return list(torch.randn(2, 4, 1, side, side, generator=torch.Generator().manual_seed(0)))


def test_a_subnet_is_the_slices_of_the_supernet_with_calibrated_norms() -> None:
    supernet = Supernet(SPACE, seed=1)
    architecture = SPACE.restrict({"resolution": [16]}).sample(np.random.default_rng(1))
    subnet = cut_subnet(supernet, architecture, batches(16))
    slices = {name: tensor.detach() for name, tensor in supernet.child(architecture).items()}
    expected = {**slices, **calibrate(SPACE.blocks(architecture), slices, batches(16))}
    assert subnet.tensors.keys() == expected.keys() and all(torch.equal(subnet.tensors[name], tensor) for name, tensor in expected.items())
    assert np.array_equal(subnet.logits(batches(16)[0]), forward(subnet.blocks, batches(16)[0], expected, running_norm).numpy())


def test_weights_of_one_network_give_that_network_and_no_other() -> None:
    alone = Supernet(SPACE.only(NETWORK), seed=1)
    assert cut_subnet(alone, NETWORK, batches()).blocks == tuple(SPACE.blocks(NETWORK))
    for slot, value in (("stage1.block0.kernel_size", 5), ("resolution", 16), ("stage2.depth", 3)):
        switched_on = {choice.name: choice.values[0] for choice in SPACE.choices}
        other = SPACE.architecture({**switched_on, slot: value})
        with pytest.raises(ArchitectureError, match=rf"do not hold the subnet asked for: slot '{slot}' has the value {value}; expected one of"):
            cut_subnet(alone, other, batches())


def test_a_subnet_of_another_space_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="do not hold the subnet asked for: architecture of space 'bignas-tiny' given to space 'ofa-"):
        cut_subnet(Supernet(SPACE), spaces.space("bignas-tiny").smallest(), batches())
