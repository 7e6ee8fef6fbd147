"""Graphs of networks of every space: what they compute in ONNX Runtime and LiteRT is what PyTorch computes, by `graph_reference`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from graph_reference import assert_both_agree, onnx, torch

from supernets.blocks import BlockSpec
from supernets.counts import parameters
from supernets.export.onnx_graph import onnx_model
from supernets.export.tflite_graph import tflite_model
from supernets.export.weights import random_folded_weights
from supernets.networks.functional import fold, forward, no_norm
from supernets.networks.static import StaticNetwork
from supernets.networks.tree import held
from supernets.spaces import space

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: these maps are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PROJECTED = {"residual": True, "stride": 2, "kernel_size": 3}
NEW_BLOCKS = [
    BlockSpec("conv_bias", 9, 12, 16, kernel_size=3, stride=2, groups=4, activation="relu"),
    BlockSpec("max_pool", 8, 6, 6, kernel_size=3, stride=2),
    BlockSpec("max_pool", 9, 6, 6, kernel_size=3, stride=2),
    BlockSpec("max_pool", 7, 6, 6, kernel_size=5, stride=1),
    BlockSpec("bottleneck", 9, 16, 16, 8, kernel_size=3, activation="relu", residual=True),
    BlockSpec("bottleneck", 8, 16, 16, 8, kernel_size=5, groups=2, activation="h_swish", residual=True, se_channels=4),
    BlockSpec("bottleneck", 9, 12, 24, 8, activation="relu", shortcut="conv_bn", **PROJECTED),
    BlockSpec("bottleneck", 9, 12, 24, 8, kernel_size=3, activation="relu", residual=True, shortcut="conv_bn"),
    BlockSpec("bottleneck", 8, 12, 24, 8, kernel_size=3, activation="relu"),
    BlockSpec("mbconv", 8, 12, 12, 24, activation="swish", shortcut="pool", **PROJECTED),
    BlockSpec("mbconv", 9, 12, 12, 24, activation="swish", shortcut="pool", **PROJECTED),
    BlockSpec("mbconv", 9, 12, 20, 24, activation="swish", shortcut="conv", se_channels=3, se_activation="swish", se_gate="sigmoid", **PROJECTED),
    BlockSpec("mbconv", 8, 12, 20, 12, kernel_size=5, activation="relu", se_channels=3, se_gate="sigmoid"),
    BlockSpec("conv_bn", 8, 12, 20, kernel_size=5, activation="relu", se_channels=3, se_gate="sigmoid", residual=True, shortcut="conv"),
    BlockSpec("conv_bn", 9, 12, 16, activation="sigmoid", shortcut="conv_bn", **PROJECTED),
]


@pytest.mark.parametrize("block", NEW_BLOCKS, ids=lambda block: block.key)
def test_graphs_of_every_kind_of_block_compute_what_torch_computes(block: BlockSpec) -> None:
    assert_both_agree([block], batch=2)


TINY = ["ofa-proxyless-tiny", "ofa-resnet50-tiny", "bignas-tiny", "bignas-tiny:kernels=layer,shortcuts=identity", "mnasnet-tiny", "repvgg-tiny",
        "repnas-tiny", "repnas-tiny:skeleton=mg2", "bignas-tiny:resolutions=28,image_channels=3,classes=37"]  # fmt: skip
IMAGENET = ["ofa-proxyless-w1.3", "ofa-resnet50", "bignas", "attentivenas", "mnasnet", "repvgg", "repnas"]


@pytest.mark.parametrize("name", TINY)
def test_graphs_of_small_networks_compute_what_torch_computes(name: str) -> None:
    searched = space(name)
    for architecture in [searched.smallest(), searched.largest(), *searched.decode(searched.sample_population(3, np.random.default_rng(3)))]:
        assert_both_agree(searched.blocks(architecture))


@pytest.mark.parametrize("name", IMAGENET)
def test_graphs_of_a_network_of_imagenet_size_compute_what_torch_computes(name: str) -> None:
    """At 60 pixels, whose maps have odd sides."""
    searched = space(f"{name}:resolutions=60")
    assert_both_agree(searched.blocks(searched.sample(np.random.default_rng(5)) if name in ("bignas", "mnasnet") else searched.smallest()))


@pytest.mark.parametrize("name", [*TINY, "mnasnet:resolutions=60", "bignas:resolutions=60"])
def test_a_trained_static_network_computes_what_its_folded_tensors_do(name: str) -> None:
    searched = space(name)
    blocks = searched.blocks(searched.sample(np.random.default_rng(7)))
    network = StaticNetwork(blocks, seed=1).train()
    images = torch.randn(4, blocks[0].in_channels, blocks[0].input_side, blocks[0].input_side, generator=torch.Generator().manual_seed(0))
    network(images).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    with torch.no_grad():
        tensors = held(network)
        expected = network.eval()(images)
        torch.testing.assert_close(forward(blocks, images, fold(tensors, blocks), no_norm), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters(blocks)


@pytest.mark.parametrize("name", ["ofa-proxyless-tiny", "ofa-resnet50-tiny", "bignas-tiny", "mnasnet-tiny", "repvgg-tiny", "repnas-tiny"])
def test_a_static_network_is_exported_as_a_program_that_computes_the_same(name: str) -> None:
    searched = space(name)
    blocks = searched.blocks(searched.sample(np.random.default_rng(8)))
    network = StaticNetwork(blocks, seed=1).eval()
    images = torch.randn(2, blocks[0].in_channels, blocks[0].input_side, blocks[0].input_side, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(network, (images,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images))


def test_a_maximum_of_what_may_be_negative_is_refused() -> None:
    blocks = [
        BlockSpec("conv_bn", 8, 3, 8, kernel_size=3, activation="h_swish", name="stem"),
        BlockSpec("max_pool", 8, 8, 8, kernel_size=3, name="top"),
    ]
    for write in (onnx_model, tflite_model):
        with pytest.raises(ValueError, match="max_pool block 'top' follows 'stem', whose activation is 'h_swish'; expected one of relu, relu6"):
            write(blocks, random_folded_weights(blocks))


def test_swish_in_onnx_is_the_two_operators_every_runtime_knows() -> None:
    block = BlockSpec("conv_bn", 8, 3, 8, kernel_size=3, activation="swish")
    model = onnx.load_model_from_string(onnx_model([block], random_folded_weights([block])))
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sigmoid", "Mul"]


def test_a_projection_is_pooled_before_it_is_convolved() -> None:
    block = BlockSpec("mbconv", 8, 12, 16, 24, kernel_size=3, stride=2, activation="relu", residual=True, shortcut="conv")
    model = onnx.load_model_from_string(onnx_model([block], random_folded_weights([block])))
    assert [node.op_type for node in model.graph.node] == ["AveragePool", "Conv", "Relu", "Conv", "Relu", "Conv", "Conv", "Add"]
