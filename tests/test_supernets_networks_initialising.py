# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.functional import TorchOperations, batch_norm
from supernets.networks.initialising import begin_as_shortcuts, last_norm_scale, residual_scales
from supernets.networks.supernet import Supernet
from supernets.walk import run_block

pytestmark = pytest.mark.torch


def shortcut(block, x, operations):
    """What a block adds its result to: written out again, not taken from the walk."""
    if block.stride > 1:
        x = torch.nn.functional.avg_pool2d(x, block.stride, block.stride, ceil_mode=True)
    if block.shortcut in ("conv", "conv_bn"):
        x = operations.convolution(x, next(c for c in block.convolutions() if c.name.endswith(".shortcut")))
    return torch.relu(x) if block.operator == "bottleneck" else x


@torch.no_grad()
@pytest.mark.parametrize("name", ["bignas-tiny", "bignas-tiny:shortcuts=identity", "ofa-mobilenetv3-tiny", "ofa-resnet50-tiny"])
def test_at_the_start_every_residual_block_is_its_shortcut(name):
    space = spaces.space(name)
    supernet = Supernet(space, seed=1)
    begin_as_shortcuts(supernet.tensors(), space)
    zeroed, checked = set(residual_scales(space)), 0
    for architecture in (space.largest(), space.smallest(), space.sample(np.random.default_rng(0))):
        operations = TorchOperations(supernet.child(architecture), batch_norm)
        for block in space.blocks(architecture):
            x = torch.randn((2, block.in_channels, block.input_side, block.input_side), generator=torch.Generator().manual_seed(0))
            if last_norm_scale(block) in zeroed:
                assert torch.equal(run_block(block, x, operations), shortcut(block, x, operations))
                checked += 1
    assert checked > 3


def test_in_bignas_every_block_has_a_shortcut_to_begin_as():
    space = spaces.space("bignas")
    blocks = [block for block in space.blocks(space.largest()) if block.operator == "mbconv"]
    assert set(residual_scales(space)) == {f"{block.name}.project.bn.weight" for block in blocks}


def test_a_place_that_some_network_has_no_shortcut_at_keeps_its_scale():
    space = spaces.space("bignas-tiny:shortcuts=identity")
    scales = set(residual_scales(space))
    assert "stage1.block0.project.bn.weight" not in scales  # 16 to 24 channels in some networks: nothing would be left of it
    assert "stage1.block1.project.bn.weight" in scales
    supernet = Supernet(space)
    before = {name: tensor.detach().clone() for name, tensor in supernet.tensors().items()}
    begin_as_shortcuts(supernet.tensors(), space)
    changed = {name for name, tensor in supernet.tensors().items() if not torch.equal(tensor, before[name])}
    assert changed == scales
