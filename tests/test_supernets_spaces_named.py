"""Costs of published networks and sizes of published spaces: figures printed in papers or counted by other programs."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from supernets import counts
from supernets.blocks import BlockSpec
from supernets.places import AdditiveCost, shared_shapes
from supernets.space import SearchSpace
from supernets.spaces import SpaceOptions, space
from supernets.spaces.bignas import TINY as BIGNAS_TINY
from supernets.spaces.mnasnet import IMAGENET as MNASNET
from supernets.spaces.mnasnet import MnasTable, Stage, mnasnet_space
from supernets.spaces.named import NAMED, named_architecture
from supernets.spaces.repnas import branch_choices


def named_blocks(name: str) -> list[BlockSpec]:
    architecture = named_architecture(name)
    return space(architecture.space).blocks(architecture)


# MnasNet-small: 68 M in the paper's table. Its released code writes the first block with 16 channels at the input, where the stem gives 8:
# counted so, that block has 1.7 M more, and the network 70.0 M.
@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("mnasnet-a1", 3.887e6, 311.6e6), ("mnasnet-b1", 4.383e6, 314.4e6), ("mnasnet-small", 2.030e6, 68.3e6),
     ("repvgg-a0", 8.309e6, 1361.5e6), ("repvgg-a1", 12.790e6, 2364.0e6), ("repvgg-a2", 25.500e6, 5117.0e6), ("repvgg-b1", 51.829e6, 11815.5e6),
     ("repvgg-b3", 110.961e6, 26208.9e6), ("bignas-smallest", 3.844e6, 217.6e6), ("bignas-biggest", 11.015e6, 1891.5e6)],
)  # fmt: skip
def test_published_networks_have_their_published_costs(name: str, parameters: float, macs: float) -> None:
    blocks = named_blocks(name)
    assert counts.parameters(blocks) == pytest.approx(parameters, abs=0.5e3)
    assert counts.macs(blocks) == pytest.approx(macs, abs=0.05e6)


@pytest.mark.parametrize(
    ("name", "millions"), [("b0", 14.33), ("b1g2", 41.36), ("b1g4", 36.12), ("b2", 80.31), ("b2g4", 55.77), ("b3g4", 75.62)]
)  # fmt: skip
def test_other_repvgg_skeletons_have_the_parameters_their_authors_print(name: str, millions: float) -> None:
    assert counts.parameters(named_blocks(f"repvgg-{name}")) == pytest.approx(millions * 1e6, abs=0.01e6)


@pytest.mark.parametrize(
    ("name", "megamacs"), [("a0", 203.39), ("a1", 279.24), ("a2", 316.73), ("a3", 356.52), ("a4", 443.53), ("a5", 490.52), ("a6", 709.01)]
)  # fmt: skip
def test_attentivenas_children_have_their_published_macs(name: str, megamacs: float) -> None:
    assert counts.macs(named_blocks(f"attentivenas-{name}")) == pytest.approx(megamacs * 1e6, abs=0.005e6)


def test_efficientnet_b0_and_resnet50d_have_every_parameter() -> None:
    assert counts.parameters(named_blocks("efficientnet-b0")) == 5_288_548
    assert counts.parameters(named_blocks("resnet50d")) == 25_576_264


@pytest.mark.parametrize(
    ("name", "smallest", "biggest", "megamacs"),
    [("bignas", 3.844e6, 11.015e6, {192: (217.6, 682.9), 224: (295.6, 928.4), 288: (487.6, 1532.7), 320: (601.6, 1891.5)}),
     ("bignas:shortcuts=identity", 3.75e6, 10.89e6, {192: (206.7, 665.4), 224: (280.8, 904.6), 288: (463.1, 1493.4), 320: (571.4, 1843.0)})],
)  # fmt: skip
def test_extremes_of_bignas_have_their_costs_at_every_resolution(
    name: str, smallest: float, biggest: float, megamacs: dict[int, tuple[float, float]]
) -> None:
    family = space(name)
    for resolution, expected in megamacs.items():
        narrowed = family.restrict({"resolution": (resolution,)})
        ends = [narrowed.blocks(narrowed.smallest()), narrowed.blocks(narrowed.largest())]
        assert [counts.macs(blocks) / 1e6 for blocks in ends] == pytest.approx(list(expected), abs=0.05)
        assert [counts.parameters(blocks) for blocks in ends] == pytest.approx([smallest, biggest], abs=5e3)


@pytest.mark.parametrize(("macs", "parameters"), [(418e6, 5.5e6), (586e6, 6.4e6), (1040e6, 9.5e6)])
def test_bignas_has_networks_as_large_as_the_published_ones(macs: float, parameters: float) -> None:
    """Gates sized by a block's inner width would leave no room for these parameters at these MACs."""
    family = space("bignas:resolutions=192/224/256/288")
    population = family.sample_population(40_000, np.random.default_rng(2))
    macs_of, parameters_of = (AdditiveCost(family, figure)(population) for figure in (counts.block_macs, counts.block_parameters))
    assert np.any((np.abs(macs_of / macs - 1) < 0.02) & (np.abs(parameters_of - parameters) < 0.15e6))


def test_named_networks_are_in_their_spaces_and_an_unknown_one_is_refused() -> None:
    for name in NAMED:
        architecture = named_architecture(name)
        assert space(architecture.space).architecture(architecture) == architecture
    with pytest.raises(KeyError, match="unknown network 'mnasnet-a9'; known networks: attentivenas-a0, "):
        named_architecture("mnasnet-a9")


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_size_of_bignas_is_that_of_its_table() -> None:
    assert space("bignas").size() == 5_013_504_000
    per_layer = space("bignas:kernels=layer")
    assert per_layer.size() == 4 * 2 * (2 * 2) * (2 * 2) * (2 * 12) * (2 * 28) * (3 * 124) * (4 * 124) * (5 * 6) * 17  # 2**d kernels of d layers
    assert per_layer.size() == pytest.approx(1.6e13, rel=0.02)
    assert per_layer.restrict({"head.width": (1280, 1408)}).size() == pytest.approx(1.9e12, rel=0.02)


def test_a_block_of_mnasnet_has_432_networks() -> None:
    """As the paper says: four convolutions, two kernels, two gates, three skips, three widths, three depths."""
    stages = tuple(Stage((8 + 32 * s, 16 + 32 * s, 24 + 32 * s), 3, 2) for s in range(5))
    five = MnasTable("five", (224,), 4, 3, 1000, 32, 2, stages, 1280)
    one = MnasTable("one", (224,), 4, 3, 1000, 32, 2, stages[:1], 1280)
    assert mnasnet_space(one, SpaceOptions()).size() == 432
    assert mnasnet_space(five, SpaceOptions()).size() == 432**5 == pytest.approx(1.505e13, rel=1e-3)


def test_mnasnet_counts_equal_networks_once() -> None:
    """Where one layer is possible it has no identity skip: 48 * (2 + 3) networks of depths 1 and 2, 48 * (2 + 3 + 3) of 1 to 3."""
    assert space("mnasnet").size() == 240 * 384 * 432**4 * 240
    every_value = [len(choice.values) for choice in space("mnasnet").choices if choice.name.startswith("stage3.")]
    assert np.prod(every_value) == 432


def test_size_of_the_branch_space_is_one_bit_a_branch() -> None:
    fifty = [BlockSpec("conv_bias", 8, 16, 16, kernel_size=3, activation="relu", name=f"block{number}") for number in range(50)]
    assert SearchSpace("fifty", tuple(branch_choices(fifty)), lambda architecture: fifty, {}).size() == 2**350
    assert float(2**350) == pytest.approx(2.29e105, rel=2e-3)
    assert space("repnas:skeleton=a0").size() == space("repnas").size() == 2**149
    assert space("repnas:skeleton=b3").size() == 2**191


def test_sizes_of_the_other_spaces_are_those_of_their_tables() -> None:
    mobile = 9**2 + 9**3 + 9**4
    assert space("ofa-proxyless-w1.3").size() == 25 * mobile**5 * 9
    shallow, deep = 3**2 + 3**3 + 3**4, 3**4 + 3**5 + 3**6
    assert space("ofa-resnet50").size() == 25 * (2 * 2 * 3) * (3 * shallow) ** 3 * (3 * deep)
    assert space("attentivenas").size() == 4 * 2 * (2 * 2 * 2) * (2 * 3 * 6) * (2 * 4 * 6) ** 2 * (3 * 6 * 6) * (4 * 6 * 2) * (2 * 2 * 2) * 2
    assert space("bignas-tiny").size() == 4 * 2 * (2 * 2) * (2 * 3 * 2) * (3 * 3 * 2) * len(BIGNAS_TINY.head_widths)


@pytest.mark.parametrize(("stem", "widths"), [(16, ((16, 24), (24, 32))), (8, ((16, 24), (24, 32)))])
def test_a_table_in_which_identity_may_or_may_not_skip_is_refused(stem: int, widths: tuple[tuple[int, ...], ...]) -> None:
    table = MnasTable("mixed", (28,), 4, 1, 10, stem, 2, tuple(Stage(each, 2, 1) for each in widths), 192)
    with pytest.raises(ValueError, match="of space 'mixed' has widths .* at stride 1, so an identity skip may or may not apply"):
        mnasnet_space(table, SpaceOptions())
    assert MNASNET.stages[0].depths == (1, 2)


# --- children and their supernet --------------------------------------------------------------------------------------

SUPERNETS = ["ofa-mobilenetv3-tiny", "ofa-proxyless-w1.3", "ofa-resnet50", "ofa-resnet50-tiny", "bignas", "bignas:kernels=layer,shortcuts=identity",
             "attentivenas", "bignas-tiny"]  # fmt: skip


@pytest.mark.parametrize("name", SUPERNETS)
def test_every_tensor_of_a_child_is_a_slice_of_the_shared_one(name: str) -> None:
    family = space(name)
    shared = shared_shapes(family)
    largest = {tensor: shape for block in family.blocks(family.largest()) for tensor, shape in counts.block_tensors(block).items()}
    assert list(shared.items())[: len(largest)] == list(largest.items())
    for architecture in [family.smallest(), *family.decode(family.sample_population(40, np.random.default_rng(4)))]:
        for block in family.blocks(architecture):
            for tensor, shape in counts.block_tensors(block).items():
                assert all(own <= all_ for own, all_ in zip(shape, shared[tensor], strict=True)), tensor


def test_a_projection_that_the_largest_network_lacks_is_shared_too() -> None:
    """From 16 to 24 channels and from 24 to 16, while the largest network keeps 24."""
    assert shared_shapes(space("attentivenas"))["stage1.block0.shortcut.weight"] == (24, 24, 1, 1)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["bignas-tiny", "ofa-resnet50-tiny", "ofa-proxyless-tiny", "attentivenas:resolutions=32"])
def test_every_child_runs_on_slices_of_its_supernet(name: str) -> None:
    torch = pytest.importorskip("torch")
    from supernets.networks.supernet import Supernet

    family = space(name)
    supernet = Supernet(family, kernel_transform=False)
    for architecture in [family.smallest(), family.largest(), *family.decode(family.sample_population(6, np.random.default_rng(4)))]:
        side, channels = architecture["resolution"], family.blocks(architecture)[0].in_channels
        with torch.no_grad():
            assert torch.isfinite(supernet(torch.ones(2, channels, side, side), architecture)).all()


# --- an independent count ---------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit, which fvcore traces with
@pytest.mark.parametrize("name", ["mnasnet-a1", "mnasnet-small", "repvgg-b1g4", "attentivenas-a0", "bignas-smallest", "efficientnet-b0", "resnet50d"])
def test_macs_of_published_networks_are_those_fvcore_counts(name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    from fvcore.nn import FlopCountAnalysis

    from supernets.networks.static import StaticNetwork

    caplog.set_level(logging.ERROR)
    blocks = named_blocks(name)
    analysis = FlopCountAnalysis(StaticNetwork(blocks).eval(), torch.zeros(1, 3, blocks[0].input_side, blocks[0].input_side))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    by_operator = analysis.by_operator()
    assert counts.macs(blocks) == int(by_operator["conv"] + by_operator["linear"])
