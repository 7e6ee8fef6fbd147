# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.counts import block_tensors
from supernets.networks.functional import fold, forward, no_norm, running_norm
from supernets.networks.initial import fresh_statistics, fresh_tensors
from supernets.networks.slicing import centre, child_tensors, cut_kernel, matrix_name
from supernets.networks.static import StaticNetwork
from supernets.networks.supernet import Supernet, supernet_tensors
from supernets.networks.tree import held

pytestmark = pytest.mark.torch

KERNEL = "stage2.block1.depthwise"
TO_5, TO_3 = matrix_name(KERNEL, 7, 5), matrix_name(KERNEL, 5, 3)


@pytest.fixture(scope="module")
def space():
    return spaces.space("ofa-mobilenetv3-tiny")


@pytest.fixture
def supernet(space):
    """A supernet none of whose tensors has a special value."""
    supernet = Supernet(space, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in supernet.tensors().values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return supernet


def images(side, count=3):
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(side))


def architectures(space):
    return [space.largest(), space.smallest(), *space.decode(space.sample_population(3, np.random.default_rng(0)))]


@pytest.mark.parametrize("number", range(5))
def test_a_child_computes_what_the_static_network_of_copies_does(space, supernet, number):
    architecture = architectures(space)[number]
    static = StaticNetwork(space.blocks(architecture), supernet.child(architecture))
    x = images(architecture["resolution"])
    child_out, static_out = supernet(x, architecture), static.train()(x)
    assert torch.equal(child_out, static_out)
    child_out.square().mean().backward()
    static_out.square().mean().backward()
    shared, own = supernet.tensors(), dict(static.named_parameters())
    for block in space.blocks(architecture):
        for name, shape in block_tensors(block).items():
            if name.endswith("depthwise.weight") and block.kernel_size < shared[name].shape[-1]:
                continue  # its gradient goes through the kernel matrices: tested below
            gradient = shared[name].grad[tuple(slice(size) for size in shape)]
            assert torch.equal(gradient, own[name].grad), name


def test_gradient_outside_the_slice_is_exactly_zero(space, supernet):
    architecture = space.smallest()
    supernet(images(architecture["resolution"]), architecture).square().mean().backward()
    shapes = {name: shape for block in space.blocks(architecture) for name, shape in block_tensors(block).items()}
    for name, tensor in supernet.tensors().items():
        if name.endswith("_matrix"):
            continue
        if name not in shapes:
            assert tensor.grad is None, name  # a block beyond the depth
            continue
        inside = torch.zeros(tensor.shape, dtype=torch.bool)
        cut = tuple(slice(size) for size in shapes[name])
        if name.endswith("depthwise.weight"):
            cut = (*cut[:2], slice(1, 6), slice(1, 6)) if tensor.shape[-1] == 7 else cut  # a 3x3 kernel is made of all of the 5x5 one
        inside[cut] = True
        assert not tensor.grad[~inside].any(), name
        assert tensor.grad[inside].any(), name


def test_gradient_through_the_kernel_matrices_is_that_of_the_chained_products(space, supernet):
    architecture = space.restrict({"kernel_size": (3,)}).largest()
    supernet(images(architecture["resolution"]), architecture).square().mean().backward()
    static = StaticNetwork(space.blocks(architecture), supernet.child(architecture))
    static.train()(images(architecture["resolution"])).square().mean().backward()
    tensors = {name: tensor.detach().clone() for name, tensor in supernet.tensors().items()}
    weight, to_5, to_3 = (tensors[name].requires_grad_() for name in (f"{KERNEL}.weight", TO_5, TO_3))
    five = torch.einsum("oc,pc->po", to_5, weight[:, 0, 1:6, 1:6].reshape(-1, 25)).reshape(-1, 5, 5)
    three = torch.einsum("oc,pc->po", to_3, five[:, 1:4, 1:4].reshape(-1, 9)).reshape(-1, 1, 3, 3)
    torch.testing.assert_close(three, dict(static.named_parameters())[f"{KERNEL}.weight"], atol=1e-6, rtol=1e-6)
    three.backward(dict(static.named_parameters())[f"{KERNEL}.weight"].grad)
    for name, tensor in ((f"{KERNEL}.weight", weight), (TO_5, to_5), (TO_3, to_3)):
        torch.testing.assert_close(supernet.tensors()[name].grad, tensor.grad, atol=1e-6, rtol=1e-5)


def test_kernel_matrices_begin_as_the_identity_so_kernels_are_centres(space):
    tensors = supernet_tensors(space, kernel_transform=True)
    weight = tensors[f"{KERNEL}.weight"]
    assert torch.equal(cut_kernel(weight, 3, KERNEL, tensors), weight[..., 2:5, 2:5])
    assert torch.equal(cut_kernel(weight, 7, KERNEL, tensors), weight)
    assert tensors[TO_5].shape == (25, 25) and tensors[TO_3].shape == (9, 9)


def test_without_kernel_transform_no_matrix_is_held_and_kernels_are_centres(space):
    plain = Supernet(space, kernel_transform=False, seed=4)
    assert not any(name.endswith("_matrix") for name in plain.tensors())
    child = plain.child(space.smallest())
    assert torch.equal(child["stage1.block0.depthwise.weight"], plain.tensors()["stage1.block0.depthwise.weight"][:48, :, 2:5, 2:5])


def test_a_matrix_of_another_step_changes_only_the_kernels_behind_it(space, supernet):
    tensors = dict(supernet.tensors())
    weight = tensors[f"{KERNEL}.weight"]
    before = {size: cut_kernel(weight, size, KERNEL, tensors) for size in (3, 5, 7)}
    tensors[TO_3] = 2 * tensors[TO_3]
    assert torch.equal(cut_kernel(weight, 5, KERNEL, tensors), before[5])
    torch.testing.assert_close(cut_kernel(weight, 3, KERNEL, tensors), 2 * before[3])


def test_centre_of_a_kernel():
    weight = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert centre(weight, 3, 3).flatten().tolist() == [16, 17, 18, 23, 24, 25, 30, 31, 32]


def test_tensors_too_small_for_the_blocks_are_refused_by_name(space):
    tensors = supernet_tensors(space.restrict({"expand_ratio": (6,)}))
    small = {**tensors, "stage3.block0.project.weight": tensors["stage3.block0.project.weight"][:, :10]}
    with pytest.raises(ValueError, match=r"stage3\.block0\.project\.weight.*expected at least"):
        child_tensors(space.blocks(space.largest()), small)


@pytest.mark.parametrize("name", ["mnasnet-tiny", "mnasnet-small", "attentivenas", "bignas-tiny", "ofa-resnet50-tiny", "repvgg-tiny"])
def test_every_network_of_a_space_is_a_slice_of_its_supernet(name):
    """Also where the largest network lacks a tensor, or has a shorter one than others: a gate of what another operator widened."""
    space = spaces.space(name)
    tensors = supernet_tensors(space)
    for architecture in space.decode(space.sample_population(20, np.random.default_rng(4))):
        blocks = space.blocks(architecture)
        shapes = {name: shape for block in blocks for name, shape in block_tensors(block).items()}
        assert {name: tuple(tensor.shape) for name, tensor in child_tensors(blocks, tensors).items()} == shapes


def test_fresh_tensors_depend_on_nothing_but_the_seed(space):
    blocks = space.blocks(space.largest())
    first = fresh_tensors(blocks, seed=7)
    torch.manual_seed(123)
    torch.rand(10)
    again, other = fresh_tensors(blocks, seed=7), fresh_tensors(blocks, seed=8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
    state = torch.get_rng_state()
    fresh_tensors(blocks, seed=7)
    assert torch.equal(torch.get_rng_state(), state)


def test_supernet_holds_exactly_the_largest_network_and_the_matrices(space):
    names = set(Supernet(space).state_dict())
    learned = {name for block in space.blocks(space.largest()) for name in block_tensors(block)}
    assert learned < names
    assert {name.rpartition(".")[2] for name in names - learned} == {"7to5_matrix", "5to3_matrix"}
    assert sum(tensor.numel() for tensor in Supernet(space).parameters()) < 750_000


def test_folded_network_computes_what_the_unfolded_one_does(space, supernet):
    architecture = space.smallest()
    blocks = space.blocks(architecture)
    generator = torch.Generator().manual_seed(0)
    statistics = {name: tensor + torch.rand(tensor.shape, generator=generator) for name, tensor in fresh_statistics(blocks).items()}
    tensors = {**supernet.child(architecture), **statistics}
    x = images(architecture["resolution"])
    with torch.no_grad():
        folded, plain = forward(blocks, x, fold(tensors, blocks), no_norm), forward(blocks, x, tensors, running_norm)
    torch.testing.assert_close(folded, plain, atol=1e-5, rtol=1e-4)


def test_dropout_is_off_by_default_and_acts_before_the_classifier(space, supernet):
    architecture, x = space.smallest(), images(20)
    with torch.no_grad():
        plain = [supernet(x, architecture) for _ in range(2)]
        dropped = supernet(x, architecture, dropout=0.5)
        everything = supernet(x, architecture, dropout=1.0)
    assert torch.equal(*plain) and not torch.equal(plain[0], dropped)
    torch.testing.assert_close(everything, supernet.tensors()["classifier.conv.bias"].expand(3, -1))


def test_static_network_tracks_norm_statistics_as_torch_does(space):
    static = StaticNetwork(space.blocks(space.smallest()), seed=1).train()
    x = images(20, count=8)
    static(x)
    map_NCHW = torch.nn.functional.conv2d(x, held(static)["stem.conv.weight"], stride=2, padding=1)
    torch.testing.assert_close(static.get_buffer("stem.conv.bn.running_mean"), 0.1 * map_NCHW.mean((0, 2, 3)))
    torch.testing.assert_close(static.get_buffer("stem.conv.bn.running_var"), 0.9 + 0.1 * map_NCHW.var((0, 2, 3)))
    before = static.get_buffer("stem.conv.bn.running_mean").clone()
    static.eval()(x)
    assert torch.equal(static.get_buffer("stem.conv.bn.running_mean"), before)


def test_state_dict_keys_are_the_tensor_names(space):
    assert "stage1.block0.expand.bn.weight" in Supernet(space).state_dict()
    assert "stage1.block0.expand.bn.running_var" in StaticNetwork(space.blocks(space.smallest())).state_dict()


def test_a_supernet_of_a_restricted_space_holds_what_its_own_networks_need(space):
    restricted = space.restrict({"kernel_size": [3, 5], "depth": [2, 3], "expand_ratio": [3, 4], "resolution": [20, 24]})
    supernet = Supernet(restricted)
    assert supernet.tensors()[f"{KERNEL}.weight"].shape[-1] == 5
    assert TO_3 in supernet.tensors() and TO_5 not in supernet.tensors()
    assert not any("block3" in name for name in supernet.tensors())
    for architecture in (restricted.largest(), restricted.smallest()):
        assert supernet(images(architecture["resolution"]), architecture).shape == (3, 10)
    with pytest.raises((KeyError, ValueError)):
        supernet.child(space.largest())
