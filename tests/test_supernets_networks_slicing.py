# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Weight sharing in every family of spaces: a child inside the supernet is the child taken out of it, and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets.counts import block_tensors
from supernets.networks.static import StaticNetwork
from supernets.networks.supernet import Supernet
from supernets.space import Architecture
from supernets.spaces import SPACES, space

pytestmark = pytest.mark.torch

TINY = sorted(name for name in SPACES if name.endswith("-tiny") and "repnas" not in name)  # that one has branches: `networks_branches`


def supernet_of(name: str) -> Supernet:
    """Return a supernet in float64 none of whose tensors has a special value; kernels are centres."""
    supernet = Supernet(space(name), kernel_transform=False, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in supernet.tensors().values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return supernet


def drawn(name: str) -> list[Architecture]:
    family = space(name)
    return [family.smallest(), family.largest(), *family.decode(family.sample_population(4, np.random.default_rng(6)))]


def slice_of(tensor: torch.Tensor, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return where in a shared tensor a child's is: leading channels, middle of the kernel."""
    cut = [slice(size) for size in shape[:2]]
    return (*cut, *(slice((have - size) // 2, (have - size) // 2 + size) for have, size in zip(tensor.shape[2:], shape[2:], strict=True)))


@pytest.mark.parametrize("name", TINY)
def test_a_child_and_its_gradients_are_those_of_the_network_taken_out_and_all_else_is_untouched(name: str) -> None:
    supernet = supernet_of(name)
    for architecture in drawn(name):
        blocks = supernet.space.blocks(architecture)
        alone = StaticNetwork(blocks, supernet.child(architecture)).double().train()
        images = torch.randn(4, blocks[0].in_channels, *[blocks[0].input_side] * 2, generator=torch.Generator().manual_seed(3)).double()
        supernet.zero_grad(set_to_none=True)
        inside, outside = supernet(images, architecture), alone(images)
        torch.testing.assert_close(inside, outside, atol=1e-13, rtol=1e-12)  # products of matrices sum slices and copies in another order
        inside.square().mean().backward()
        outside.square().mean().backward()
        own, shapes = dict(alone.named_parameters()), {name: shape for block in blocks for name, shape in block_tensors(block).items()}
        for tensor_name, tensor in supernet.tensors().items():
            if tensor_name not in shapes:
                assert tensor.grad is None, tensor_name
                continue
            cut = slice_of(tensor, shapes[tensor_name])
            torch.testing.assert_close(tensor.grad[cut], own[tensor_name].grad, atol=1e-12, rtol=1e-10, msg=tensor_name)
            elsewhere = torch.ones(tensor.shape, dtype=torch.bool)
            elsewhere[cut] = False
            assert not tensor.grad[elsewhere].any(), tensor_name


@pytest.mark.parametrize("name", TINY)
def test_what_is_not_in_the_slice_does_not_matter(name: str) -> None:
    supernet = supernet_of(name)
    architecture = supernet.space.smallest()
    blocks = supernet.space.blocks(architecture)
    images = torch.randn(4, blocks[0].in_channels, *[blocks[0].input_side] * 2, generator=torch.Generator().manual_seed(3)).double()
    shapes = {name: shape for block in blocks for name, shape in block_tensors(block).items()}
    with torch.no_grad():
        before = supernet(images, architecture)
        for tensor_name, tensor in supernet.tensors().items():
            elsewhere = torch.ones(tensor.shape, dtype=torch.bool)
            if tensor_name in shapes:
                elsewhere[slice_of(tensor, shapes[tensor_name])] = False
            tensor[elsewhere] = torch.nan
        assert torch.equal(supernet(images, architecture), before)
