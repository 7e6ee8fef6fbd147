"""ONNX and TFLite graphs against PyTorch, by `graph_reference`."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_reference import assert_both_agree, onnx, random_images, run_litert, torch

from supernets.blocks import BlockSpec
from supernets.counts import macs
from supernets.export.onnx_graph import onnx_model
from supernets.export.tflite_graph import tflite_model
from supernets.export.weights import folded_shapes, random_folded_weights
from supernets.places import distinct_blocks
from supernets.spaces import space

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: these maps are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def operators(model: bytes) -> Counter[str]:
    """Return how often a TFLite file uses each operator, read back through the schema."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    parsed = schema.ModelT.InitFromPackedBuf(model)
    return Counter(names[parsed.operatorCodes[operator.opcodeIndex].builtinCode] for operator in parsed.subgraphs[0].operators)


def kind(block: BlockSpec) -> str:
    flags = {
        "se": block.se_channels,
        "expands": block.mid_channels > block.in_channels,
        "residual": block.residual,
        "odd": block.input_side % 2,
        "grey": block.in_channels == 1,
    }
    return "-".join([block.operator, f"k{block.kernel_size}", f"s{block.stride}", block.activation, *(flag for flag in flags if flags[flag])])


def kinds(space_name: str) -> dict[str, list[BlockSpec]]:
    found: dict[str, list[BlockSpec]] = {}
    for block in sorted(distinct_blocks(space(space_name)), key=lambda block: macs([block])):
        found.setdefault(f"{space_name}-{kind(block)}", []).append(block)
    return found


# every block of the tiny space and its colour stem; of w1.2 the cheapest of each kind
BY_KIND = kinds("ofa-mobilenetv3-tiny")
BY_KIND |= {name: blocks for name, blocks in kinds("ofa-mobilenetv3-tiny:image_channels=3").items() if blocks[0].in_channels == 3}
BY_KIND |= {name: blocks[:1] for name, blocks in kinds("ofa-mobilenetv3-w1.2").items()}


@pytest.mark.parametrize("name", BY_KIND)
def test_graphs_of_every_kind_of_block_compute_what_torch_computes(name: str) -> None:
    for block in BY_KIND[name]:
        assert_both_agree([block])


OTHERS = [
    BlockSpec("conv_bn", 9, 16, 32, kernel_size=3, groups=4, activation="relu6"),
    BlockSpec("conv_bn", 10, 16, 32, kernel_size=5, stride=2, groups=16, activation="h_sigmoid"),  # depthwise with two results a channel
    BlockSpec("conv_bn", 7, 8, 8, kernel_size=3, groups=2, activation="h_swish", residual=True),
    BlockSpec("conv", 8, 3, 8, kernel_size=7, stride=2, activation="relu6"),
    BlockSpec("mbconv", 2, 8, 8, 24, kernel_size=7, se_channels=8, activation="relu6", residual=True),  # kernel wider than the map
    BlockSpec("mbconv", 12, 8, 16, 24, kernel_size=5, stride=2, se_channels=8, activation="h_sigmoid"),
    BlockSpec("conv_bn", 1, 4, 4, kernel_size=3, activation="none"),
    BlockSpec("mbconv", 5, 1, 1, 1, kernel_size=3, activation="relu", residual=True),  # a depthwise convolution of a single channel
]


@pytest.mark.parametrize("block", OTHERS, ids=lambda block: block.key)
def test_graphs_of_blocks_that_no_space_here_has_compute_what_torch_computes(block: BlockSpec) -> None:
    assert_both_agree([block], batch=2)


NETWORKS = [("ofa-mobilenetv3-tiny", 2), ("ofa-mobilenetv3-tiny:image_channels=3,classes=37", 1), ("ofa-mobilenetv3-w1.2", 1)]


@pytest.mark.parametrize(("name", "batch"), NETWORKS)
@pytest.mark.parametrize("which", ["smallest", "largest", "sampled"])
def test_graphs_of_whole_networks_compute_what_torch_computes(name: str, batch: int, which: str) -> None:
    searched = space(name)
    architecture = searched.sample(np.random.default_rng(3)) if which == "sampled" else getattr(searched, which)()
    assert_both_agree(searched.blocks(architecture), batch)


def test_blocks_repeated_in_a_chain_share_their_constants() -> None:
    block = BlockSpec("mbconv", 6, 8, 8, 24, kernel_size=3, activation="relu", residual=True)
    assert_both_agree([block] * 3)
    weights = random_folded_weights([block])
    for write in (onnx_model, tflite_model):
        assert len(write([block] * 3, weights)) < len(write([block], weights)) + 4 * sum(weight.size for weight in weights.values())


def test_a_chain_of_linear_blocks_is_a_graph() -> None:
    assert_both_agree([BlockSpec("linear", 1, 12, 7, name="first"), BlockSpec("linear", 1, 7, 5, name="second")], batch=3)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_tflite_pads_apart_exactly_where_its_own_same_padding_is_not_symmetric(kernel_size: int, stride: int) -> None:
    for side in range(1, 12):
        block = BlockSpec("conv_bn", side, 2, 3, kernel_size=kernel_size, stride=stride, activation="relu")
        same_before = max((math.ceil(side / stride) - 1) * stride + kernel_size - side, 0) // 2
        assert_both_agree([block])
        graph = tflite_model([block], random_folded_weights([block]))
        assert operators(graph) == ({"CONV_2D": 1} if same_before == kernel_size // 2 else {"PAD": 1, "CONV_2D": 1}), block.key


def test_tflite_fuses_relu_and_spells_the_gate_out() -> None:
    block = BlockSpec("mbconv", 6, 8, 8, 24, kernel_size=3, se_channels=8, activation="h_swish", residual=True)
    found = operators(tflite_model([block], random_folded_weights([block])))
    # expand, both of the gate, project; depthwise; after expand and depthwise; the gate's and the block's sum; gate's scale and the gating
    assert found == {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "HARD_SWISH": 2, "MEAN": 1, "ADD": 2, "MUL": 2}
    found = operators(tflite_model([BlockSpec("conv", 6, 8, 8, activation="relu6")], {"block.conv.weight": np.ones((8, 8, 1, 1), np.float32)}))
    assert found == {"CONV_2D": 1}


def test_tflite_constants_are_aligned_and_the_file_says_little_of_its_origin() -> None:
    blocks = space("ofa-mobilenetv3-tiny").blocks(space("ofa-mobilenetv3-tiny").smallest())
    model = tflite_model(blocks, random_folded_weights(blocks))
    parsed = schema.Model.GetRootAs(model)
    start = np.frombuffer(model, np.uint8).ctypes.data
    constants = [parsed.Buffers(index).DataAsNumpy() for index in range(1, parsed.BuffersLength())]
    assert len(constants) >= len(folded_shapes(blocks))
    assert {(constant.ctypes.data - start) % 16 for constant in constants} == {0}
    assert parsed.Buffers(0).DataIsNone()
    assert (parsed.Version(), parsed.Description(), model[4:8]) == (3, b"elastic-latency", b"TFL3")
    assert (parsed.MetadataLength(), parsed.SignatureDefsLength()) == (0, 0)


def test_onnx_file_states_its_shapes_and_little_of_its_origin() -> None:
    blocks = [BlockSpec("pool", 7, 16, 16, name="pool"), BlockSpec("linear", 1, 16, 10, name="classifier")]
    model = onnx.load_model_from_string(onnx_model(blocks, random_folded_weights(blocks), batch=2))
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in (*model.graph.input, *model.graph.output)]
    assert shapes == [[2, 16, 7, 7], [2, 10]]
    assert [node.op_type for node in model.graph.node] == ["GlobalAveragePool", "Flatten", "Gemm"]
    assert {tensor.name for tensor in model.graph.initializer} == {"classifier.conv.weight", "classifier.conv.bias"}
    assert (model.producer_name, model.producer_version, model.doc_string, model.domain) == ("elastic-latency", "", "", "")


def test_a_convolution_without_bias_gets_none_in_onnx() -> None:
    block = BlockSpec("conv", 1, 16, 24, activation="h_swish")
    (node, _) = onnx.load_model_from_string(onnx_model([block], random_folded_weights([block]))).graph.node
    assert list(node.input) == ["input", "block.conv.weight"]


def test_the_same_blocks_and_weights_give_the_same_bytes_in_another_process_without_torch() -> None:
    script = (
        "import sys, hashlib; sys.modules['torch'] = None\n"
        "from supernets.spaces import space\n"
        "from supernets.export.weights import random_folded_weights\n"
        "from supernets.export.onnx_graph import onnx_model\n"
        "from supernets.export.tflite_graph import tflite_model\n"
        "tiny = space('ofa-mobilenetv3-tiny'); blocks = tiny.blocks(tiny.smallest()); weights = random_folded_weights(blocks, seed=5)\n"
        "print(*(hashlib.sha256(write(blocks, weights)).hexdigest() for write in (onnx_model, tflite_model)))"
    )
    tiny = space("ofa-mobilenetv3-tiny")
    blocks = tiny.blocks(tiny.smallest())
    weights = dict(reversed(random_folded_weights(blocks, seed=5).items()))
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT).stdout
    assert printed.split() == [hashlib.sha256(write(blocks, weights)).hexdigest() for write in (onnx_model, tflite_model)]


@pytest.mark.parametrize("write", [onnx_model, tflite_model])
def test_writing_the_largest_network_takes_under_a_second(write: Any) -> None:
    searched = space("ofa-mobilenetv3-w1.2")
    blocks = searched.blocks(searched.largest())
    weights = random_folded_weights(blocks)
    start_s = time.process_time()  # what other programs of the machine do is not counted
    write(blocks, weights)
    assert time.process_time() - start_s < 1


def test_random_weights_keep_maps_in_range() -> None:
    searched = space("ofa-mobilenetv3-w1.2")
    for architecture in (searched.smallest(), searched.largest()):
        blocks = searched.blocks(architecture)
        output = run_litert(tflite_model(blocks, random_folded_weights(blocks, seed=1)), random_images(blocks[0]))
        assert 0.01 < output.std() < 100


@pytest.mark.parametrize("write", [onnx_model, tflite_model])
def test_writers_refuse_what_makes_no_graph_and_say_why(write: Any) -> None:
    block = BlockSpec("conv_bn", 8, 3, 4, kernel_size=3, name="stem")
    weights = random_folded_weights([block])
    with pytest.raises(ValueError, match="batch is 0"):
        write([block], weights, batch=0)
    with pytest.raises(ValueError, match="'stem.conv.bias' is missing"):
        write([block], {"stem.conv.weight": weights["stem.conv.weight"]})


@pytest.mark.parametrize(("write", "package", "extra"), [(onnx_model, "onnx", "onnx"), (tflite_model, "ai_edge_litert", "litert")])
def test_a_missing_package_is_named_with_its_extra(write: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package.replace('_', '-')}.*elastic-latency\[{extra}\]"):
        write([BlockSpec("pool", 8, 4, 4)], {})
