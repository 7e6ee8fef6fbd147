# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.blocks import BlockSpec
from supernets.networks.functional import batch_norm, forward
from supernets.networks.slicing import child_tensors
from supernets.networks.sorting import descending_in_groups, sorted_channels
from supernets.networks.streams import Stream, inner_streams
from supernets.networks.supernet import supernet_tensors
from supernets.space import Choice, SearchSpace

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def space():
    return spaces.space("ofa-mobilenetv3-tiny")


@pytest.fixture(scope="module")
def tensors(space):
    generator = torch.Generator().manual_seed(3)
    fresh = supernet_tensors(space, seed=1)
    return {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in fresh.items()}  # norms and biases differ too


def run(space, tensors, architecture):
    x = torch.randn(4, 1, architecture["resolution"], architecture["resolution"], generator=torch.Generator().manual_seed(0))
    blocks = space.blocks(architecture)
    with torch.no_grad():
        return forward(blocks, x, child_tensors(blocks, tensors), batch_norm)


def importance(tensors, name):
    return tensors[f"{name}.weight"].abs().sum((0, 2, 3))


def test_sorting_keeps_the_outputs_of_the_largest_network(space, tensors):
    released = space.restrict({"expand_ratio": (6,)})
    after = sorted_channels(tensors, space, released)
    for kernel_size in (3, 7):
        architecture = space.restrict({"expand_ratio": (6,), "kernel_size": (kernel_size,)}).largest()
        torch.testing.assert_close(run(space, after, architecture), run(space, tensors, architecture), atol=1e-5, rtol=1e-5)


def test_sorting_changes_the_narrow_children_before_they_are_trained(space, tensors):
    after = sorted_channels(tensors, space, space.restrict({"expand_ratio": (6,)}))
    assert (run(space, after, space.smallest()) - run(space, tensors, space.smallest())).abs().max() > 1e-2


@pytest.mark.parametrize("place", ["stage1.block0", "stage2.block0", "stage3.block3"])
def test_kept_channels_of_a_narrow_child_are_the_most_important(space, tensors, place):
    before = importance(tensors, f"{place}.project")
    after = sorted_channels(tensors, space, space.restrict({"expand_ratio": (6,)}))
    torch.testing.assert_close(importance(after, f"{place}.project"), before.sort(descending=True).values)
    if place != "stage1.block0":
        torch.testing.assert_close(importance(after, f"{place}.se_expand").sort(descending=True).values, importance(after, f"{place}.se_expand"))


def test_released_children_compute_the_same_after_a_second_sorting(space, tensors):
    released = space.restrict({"expand_ratio": (4, 6)})
    after = sorted_channels(tensors, space, released)
    for width in (4, 6):
        architecture = space.restrict({"expand_ratio": (width,)}).largest()
        torch.testing.assert_close(run(space, after, architecture), run(space, tensors, architecture), atol=1e-5, rtol=1e-5)


def test_channels_stay_inside_the_groups_of_released_widths(space, tensors):
    after = sorted_channels(tensors, space, space.restrict({"expand_ratio": (4, 6)}))
    before, now = importance(tensors, "stage2.block1.project"), importance(after, "stage2.block1.project")
    for group in (slice(0, 128), slice(128, 192)):  # 32 channels times 4, times 6
        torch.testing.assert_close(now[group], before[group].sort(descending=True).values)


def test_sorting_leaves_blocks_of_one_width_alone_and_its_input_unchanged(space, tensors):
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    after = sorted_channels(tensors, space, space.restrict({"expand_ratio": (6,)}))
    assert torch.equal(after["first_block.project.weight"], tensors["first_block.project.weight"])
    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)


def test_groups_are_sorted_apart_with_ties_in_order():
    assert descending_in_groups(torch.tensor([1.0, 3.0, 3.0, 9.0, 5.0, 7.0]), [3, 6]).tolist() == [1, 2, 0, 3, 5, 4]


@pytest.fixture(scope="module")
def resnet():
    """The tiny ResNet space, tensors with norms and biases that differ, and the part of the space whose maps between blocks are all full."""
    space = spaces.space("ofa-resnet50-tiny")
    generator = torch.Generator().manual_seed(3)
    tensors = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in supernet_tensors(space, seed=1).items()}
    return space, tensors, space.restrict({choice.name: choice.allowed[-1:] for choice in space.choices if choice.kind in ("width", "inner_width")})


def test_bottlenecks_are_sorted_on_both_sides_of_their_spatial_convolution(resnet):
    space, before, _ = resnet
    widest = {choice.name: choice.allowed[-1:] for choice in space.choices if choice.kind in ("width", "inner_width", "expand_ratio")}
    after = sorted_channels(before, space, space.restrict(widest))
    torch.testing.assert_close(run(space, after, space.largest()), run(space, before, space.largest()), atol=1e-4, rtol=1e-4)
    assert (run(space, after, space.smallest()) - run(space, before, space.smallest())).abs().max() > 1e-2
    for part in ("restore", "spatial"):
        found = importance(after, f"stage2.block0.{part}")
        torch.testing.assert_close(found, importance(before, f"stage2.block0.{part}").sort(descending=True).values)
        assert not torch.equal(found, importance(before, f"stage2.block0.{part}"))


READERS = {
    "stem": ("stem_middle.conv", "stem_out.conv"),
    "stem_out": ("stage1.block0.reduce", "stage1.block0.shortcut"),
    "stage2": ("stage2.block1.reduce", "stage2.block2.reduce", "stage3.block0.reduce", "stage3.block0.shortcut"),
    "stage3": ("stage3.block1.reduce", "stage3.block2.reduce", "classifier.conv"),
}


@pytest.mark.parametrize("readers", READERS.values(), ids=READERS)
def test_maps_between_bottlenecks_are_sorted_by_all_that_read_them(resnet, readers):
    space, before, full_width = resnet
    after = sorted_channels(before, space, full_width)
    summed = [sum(importance(tensors, reader) for reader in readers) for tensors in (before, after)]
    torch.testing.assert_close(summed[1], summed[0].sort(descending=True).values)
    assert not torch.equal(summed[0], summed[1])


def test_sorting_maps_between_bottlenecks_keeps_the_outputs_of_every_child_of_full_width(resnet):
    space, before, full_width = resnet
    after = sorted_channels(before, space, full_width)
    children = full_width.decode(full_width.sample_different(6, np.random.default_rng(0)))
    assert {child["stem.middle"] for child in children} == {0, 1}, "with and without the stem's second convolution"
    for child in children:
        torch.testing.assert_close(run(space, after, child), run(space, before, child), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", ["stem.inner_width", "stem.width", "stage2.width"])
def test_maps_between_bottlenecks_stay_in_order_once_a_narrower_one_is_trained(resnet, width):
    space, before, full_width = resnet
    kept = {choice.name: choice.allowed for choice in full_width.choices if choice.name != width}
    after = sorted_channels(before, space, space.restrict(kept))
    assert torch.equal(after["stem.conv.weight"], before["stem.conv.weight"])
    assert torch.equal(after["stage1.block0.shortcut.weight"], before["stage1.block0.shortcut.weight"])
    assert torch.equal(after["classifier.conv.weight"], before["classifier.conv.weight"])


RESNET = [
    BlockSpec("conv_bias", 8, 3, 16, kernel_size=3, name="a"),
    BlockSpec("max_pool", 8, 16, 16, kernel_size=3, stride=2, name="b"),
    BlockSpec("bottleneck", 4, 16, 24, 8, kernel_size=3, se_channels=8, residual=True, shortcut="conv", name="c"),
    BlockSpec("bottleneck", 4, 24, 24, 8, kernel_size=3, groups=2, residual=True, name="d"),
    BlockSpec("bottleneck", 4, 24, 24, 8, kernel_size=3, stride=2, residual=True, shortcut="pool", name="e"),
    BlockSpec("bottleneck", 2, 24, 16, 8, kernel_size=3, name="f"),
    BlockSpec("conv", 2, 16, 16, name="g"),
    BlockSpec("pool", 2, 16, 16, name="h"),
    BlockSpec("linear", 1, 16, 5, name="i"),
]


def test_who_writes_and_reads_the_maps_between_bottlenecks():
    assert inner_streams(RESNET) == [
        Stream("a", 16, ("a.conv",), ("c.reduce", "c.shortcut")),
        Stream("c", 24, ("c.restore", "d.restore", "e.restore", "c.shortcut"), ("d.reduce", "e.reduce", "f.reduce")),
        Stream("f", 16, ("f.restore",), ("g.conv",)),
        Stream("g", 16, ("g.conv",), ("i.conv",)),
    ]


def test_maps_between_blocks_of_every_kind_are_sorted_and_the_network_stays_the_same():
    space = SearchSpace("bottlenecks", (Choice("resolution", (8,)),), lambda _: RESNET, {block.name: ("resolution",) for block in RESNET})
    generator = torch.Generator().manual_seed(3)
    before = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in supernet_tensors(space).items()}
    after = sorted_channels(before, space, space)
    x = torch.randn(4, 3, 8, 8, generator=generator)
    torch.testing.assert_close(forward(RESNET, x, after, batch_norm), forward(RESNET, x, before, batch_norm), atol=1e-4, rtol=1e-4)
    moved = {name.partition(".")[0] for name in before if not torch.equal(after[name], before[name])}
    assert moved == {"a", "c", "d", "e", "f", "g", "i"}
    assert not torch.equal(after["a.conv.bias"], before["a.conv.bias"])


@pytest.mark.parametrize("other", [
    BlockSpec("mbconv", 2, 16, 16, 32, kernel_size=3, name="x"), BlockSpec("conv_bn", 2, 16, 16, kernel_size=3, groups=2, name="x"),
    BlockSpec("conv_bn", 2, 16, 16, kernel_size=3, se_channels=8, name="x"),
], ids=["mbconv", "groups", "gate"])  # fmt: skip
def test_maps_beside_blocks_that_work_on_single_channels_are_nobodys_to_sort(other):
    assert inner_streams([*RESNET[:7], other, *RESNET[7:]]) == []


@pytest.mark.parametrize("name", ["repvgg-tiny", "repnas-tiny", "bignas-tiny", "mnasnet-tiny", "ofa-mobilenetv3-tiny"])
def test_maps_of_networks_without_bottlenecks_are_nobodys_to_sort(name):
    space = spaces.space(name)
    assert inner_streams(space.blocks(space.largest())) == []


@pytest.mark.parametrize("name", ["bignas-tiny", "mnasnet-tiny", "ofa-proxyless-tiny", "ofa-resnet50-tiny", "ofa-resnet50-tiny-w0.5", "repvgg-tiny"])
def test_sorting_keeps_the_outputs_of_what_is_trained_in_every_space(name):
    space = spaces.space(name)
    generator = torch.Generator().manual_seed(3)
    tensors = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in supernet_tensors(space, seed=1).items()}
    largest = space.restrict({choice: (value,) for choice, value in space.largest().values.items() if value is not None})
    some = [space.largest(), *space.decode(space.sample_different(3, np.random.default_rng(0)))]
    for released, trained in ((largest, some[:1]), (space, some)):
        after = sorted_channels(tensors, space, released)
        for architecture in trained:
            torch.testing.assert_close(run(space, after, architecture), run(space, tensors, architecture), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("details", [{"se_channels": 8}, {"groups": 2}], ids=["gate", "groups"])
def test_bottlenecks_with_gates_are_sorted_with_them_and_those_with_groups_stay(details):
    def lower(architecture):
        block = BlockSpec("bottleneck", 8, 3, 16, architecture["block.inner"], kernel_size=3, name="block", **details)
        return [block, BlockSpec("pool", 8, 16, 16, name="pool"), BlockSpec("linear", 1, 16, 5, name="classifier")]

    choices = (Choice("resolution", (8,)), Choice("block.inner", (8, 16)))
    space = SearchSpace(
        f"bottleneck with {details}", choices, lower, {"block": ("resolution", "block.inner"), "pool": ("resolution",), "classifier": ("resolution",)}
    )
    generator = torch.Generator().manual_seed(3)
    before = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in supernet_tensors(space).items()}
    after = sorted_channels(before, space, space.restrict({"block.inner": (16,)}))
    x, blocks = torch.randn(4, 3, 8, 8, generator=generator), space.blocks(space.largest())
    outputs = [forward(blocks, x, child_tensors(blocks, tensors), batch_norm) for tensors in (after, before)]
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    assert torch.equal(after["block.reduce.weight"], before["block.reduce.weight"]) == ("groups" in details)


def test_a_second_sorting_of_bottlenecks_leaves_released_children_alone():
    space = spaces.space("ofa-resnet50-tiny")
    tensors = supernet_tensors(space, seed=1)
    released = space.restrict({"expand_ratio": (0.25, 0.35)})
    after = sorted_channels(tensors, space, released)
    for architecture in (released.largest(), released.smallest()):
        torch.testing.assert_close(run(space, after, architecture), run(space, tensors, architecture), atol=1e-4, rtol=1e-4)
    assert any(not torch.equal(after[name], tensor) for name, tensor in tensors.items())
