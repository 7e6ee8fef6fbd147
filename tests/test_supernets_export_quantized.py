"""int8 graphs of blocks and networks: they compute nearly what the float ones do, by integer kernels throughout."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_supernets_export_graphs import OTHERS, operators

from supernets.blocks import BlockSpec
from supernets.export.onnx_graph import onnx_model
from supernets.export.quantized_inputs import batches_of, random_inputs
from supernets.export.quantized_onnx import quantized_onnx_model
from supernets.export.quantized_tflite import quantized_tflite_model
from supernets.export.tflite_graph import tflite_model
from supernets.export.weights import random_folded_weights
from supernets.places import distinct_blocks
from supernets.spaces import space

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

ROOT = Path(__file__).parents[1]
LEAST_SNR_DB = 20.0  # power of the float output over that of the difference
RANGE_INPUTS = 16


def snr_db(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


def unseen_inputs(blocks: Sequence[BlockSpec], batch: int) -> np.ndarray:
    """Return inputs of the distribution that the ranges were found on, but none of those."""
    first = blocks[0]
    values = np.random.default_rng(99).standard_normal((2 * batch, first.in_channels, first.input_side, first.input_side), dtype=np.float32)
    return np.maximum(values, 0) if first.operator == "max_pool" else values  # which stands behind what is nowhere negative


def run_onnx(model: bytes, images: np.ndarray, batch: int) -> np.ndarray:
    """Return the outputs; where uint8 goes in and out, by the scales that the graph states."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load_model_from_string(model).graph.initializer}
    integers = session.get_inputs()[0].type == "tensor(uint8)"
    if integers:
        images = np.clip(np.rint(images / stored["input_scale"]) + stored["input_zero_point"], 0, 255).astype(np.uint8)
    parts = [session.run(["output"], {"input": images[start : start + batch]})[0] for start in range(0, len(images), batch)]
    output = np.concatenate(parts)
    name = "output" if "output_scale" in stored else "input"  # a pool's result has its input's scale
    return (output.astype(np.float32) - stored[f"{name}_zero_point"]) * stored[f"{name}_scale"] if integers else output


def run_litert(model: bytes, images: np.ndarray, batch: int) -> np.ndarray:
    """Return the outputs as NCHW, after checking that XNNPACK runs the graph as one partition."""
    runner = interpreter.Interpreter(model_content=model, num_threads=1)
    runner.allocate_tensors()
    (source,), (result,) = runner.get_input_details(), runner.get_output_details()
    (delegate,) = [node for node in runner._get_ops_details() if node["op_name"] == "DELEGATE"]
    assert source["index"] in delegate["inputs"]
    assert list(delegate["outputs"]) == [result["index"]]
    computed = {int(index) for node in runner._get_ops_details() if node["op_name"] != "DELEGATE" for index in node["outputs"]}
    assert not computed & set(map(int, delegate["inputs"])), "what others compute for the delegate is not part of it"
    inputs, parts = images.transpose(0, 2, 3, 1), []
    if source["dtype"] == np.int8:
        scale, zero_point = source["quantization"]
        inputs = np.clip(np.rint(inputs / scale) + zero_point, -128, 127).astype(np.int8)
    for start in range(0, len(inputs), batch):
        runner.set_tensor(source["index"], np.ascontiguousarray(inputs[start : start + batch]))
        runner.invoke()
        parts.append(runner.get_tensor(result["index"]))
    output = np.concatenate(parts)
    if result["dtype"] == np.int8:
        scale, zero_point = result["quantization"]
        output = (output.astype(np.float32) - zero_point) * np.float32(scale)
    return output.transpose(0, 3, 1, 2) if output.ndim == 4 else output


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "onnx": (onnx_model, quantized_onnx_model, run_onnx),
    "tflite": (tflite_model, quantized_tflite_model, run_litert),
}


def snr_of(kind: str, blocks: Sequence[BlockSpec], batch: int = 1, seed: int = 0) -> float:
    """Return how close the int8 model is to the float one, each on its runtime, on inputs that no range was found on."""
    plain, quantized, run = KINDS[kind]
    weights, images = random_folded_weights(blocks, seed), unseen_inputs(blocks, batch)
    expected = run(plain(blocks, weights, batch), images, batch)
    return snr_db(expected, run(quantized(blocks, weights, random_inputs(blocks, batch * RANGE_INPUTS), batch), images, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_of_the_tiny_space_stays_close_to_its_float_form(kind: str) -> None:
    blocks = sorted(distinct_blocks(space("ofa-mobilenetv3-tiny")), key=lambda block: block.key)
    found = {block.key: snr_of(kind, [block]) for block in blocks[::3]}
    assert min(found.values()) > LEAST_SNR_DB, min(found, key=found.__getitem__)


FURTHER = [
    BlockSpec("max_pool", 8, 16, 16, kernel_size=3, stride=2),
    BlockSpec("bottleneck", 8, 16, 32, 8, kernel_size=3, stride=2, activation="relu", residual=True, shortcut="conv_bn"),
    BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=5, se_channels=8, se_activation="swish", se_gate="sigmoid", activation="swish", residual=True),
    BlockSpec("mbconv", 9, 16, 16, 48, kernel_size=3, stride=2, activation="relu6", residual=True, shortcut="pool"),
    BlockSpec("mbconv", 8, 16, 16, 48, kernel_size=3, stride=2, activation="relu", residual=True, shortcut="pool"),
    BlockSpec("bottleneck", 7, 16, 32, 8, kernel_size=3, stride=2, activation="relu", residual=True, shortcut="conv"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [*OTHERS, *FURTHER], ids=lambda block: block.key)
def test_blocks_of_every_operator_and_activation_stay_close_to_their_float_form(kind: str, block: BlockSpec) -> None:
    assert snr_of(kind, [block], batch=2) > LEAST_SNR_DB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_random_networks_stay_close_to_their_float_form(kind: str, seed: int) -> None:
    searched = space("ofa-mobilenetv3-tiny")
    blocks = searched.blocks(searched.sample(np.random.default_rng(seed)))
    assert snr_of(kind, blocks, seed=seed) > LEAST_SNR_DB


def test_every_tensor_of_an_int8_tflite_file_is_an_integer() -> None:
    block = BlockSpec("mbconv", 6, 8, 8, 24, kernel_size=3, se_channels=8, activation="h_swish", residual=True)
    model = quantized_tflite_model([block], random_folded_weights([block]), random_inputs([block]))
    (graph,) = schema.ModelT.InitFromPackedBuf(model).subgraphs
    kinds = Counter(tensor.type for tensor in graph.tensors)
    assert set(kinds) == {schema.TensorType.INT8, schema.TensorType.INT32}
    weights = {tensor.name: tensor.quantization for tensor in graph.tensors if tensor.name.endswith(b".weight")}
    assert {name.decode(): (len(q.scale), q.quantizedDimension) for name, q in weights.items()} == {
        "block.expand.weight": (24, 0), "block.depthwise.weight": (24, 3), "block.se_reduce.weight": (8, 0), "block.se_expand.weight": (24, 0),
        "block.project.weight": (8, 0),
    }  # fmt: skip
    assert all(not np.any(q.zeroPoint) for q in weights.values())
    # each of two h_swish is ADD, MUL, MUL; the gate ADD, MUL and the gating MUL; the block's sum one ADD
    assert operators(model) == {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "MEAN": 1, "ADD": 4, "MUL": 6}


def test_zero_is_exact_in_every_map_so_that_padding_is() -> None:
    block = BlockSpec("conv_bn", 8, 3, 8, kernel_size=3, stride=2, activation="relu")
    weights = random_folded_weights([block]) | {"block.conv.bias": np.zeros(8, np.float32)}
    (image,) = random_inputs([block])[:1]
    for images in (image[None] + 5, image[None] - 5):  # ranges that lie beside zero are widened to it
        quantized = quantized_tflite_model([block], weights, np.concatenate([images] * 4))
        assert not run_litert(quantized, np.zeros_like(images), 1).any()


def test_a_channel_of_dead_weights_keeps_its_bias() -> None:
    block = BlockSpec("conv_bn", 4, 4, 4, activation="none")
    weights = random_folded_weights([block])
    weights["block.conv.weight"][1] = 0
    weights["block.conv.weight"][2] = 1e-9
    weights["block.conv.bias"][:] = [0, 0, 3, -3]
    for kind, (plain, quantized, run) in KINDS.items():
        images = unseen_inputs([block], 1)
        expected, found = run(plain([block], weights), images, 1), run(quantized([block], weights, random_inputs([block])), images, 1)
        assert snr_db(expected, found) > LEAST_SNR_DB, kind
        assert np.abs(found[:, 2] - 3).max() < 0.1, kind


def test_blocks_repeated_in_a_chain_share_their_weights() -> None:
    block = BlockSpec("mbconv", 6, 16, 16, 64, kernel_size=3, activation="relu", residual=True)
    model = quantized_tflite_model([block] * 3, random_folded_weights([block]), random_inputs([block]))
    names = Counter(tensor.name.decode() for tensor in schema.ModelT.InitFromPackedBuf(model).subgraphs[0].tensors)
    assert [names[f"block.{part}.weight"] for part in ("expand", "depthwise", "project")] == [1, 1, 1]
    assert not any(".weight." in name for name in names), "biases have a scale for each place, weights the same one everywhere"
    assert snr_of("tflite", [block] * 3) > LEAST_SNR_DB


def test_one_onnx_block_takes_and_gives_integers_and_a_network_float_numbers() -> None:
    tiny = space("ofa-mobilenetv3-tiny")
    blocks = tiny.blocks(tiny.smallest())

    def ends(part: Sequence[BlockSpec]) -> list[int]:
        model = onnx.load_model_from_string(quantized_onnx_model(part, random_folded_weights(part), random_inputs(part)))
        onnx.checker.check_model(model, full_check=True)
        return [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]

    assert ends(blocks) == [onnx.TensorProto.FLOAT] * 2
    for block in (blocks[0], blocks[2], blocks[-1]):
        assert ends([block]) == [onnx.TensorProto.UINT8] * 2, block.key


def test_weights_of_an_onnx_file_have_a_scale_a_channel() -> None:
    block = BlockSpec("conv_bn", 8, 3, 8, kernel_size=3, activation="relu")
    model = onnx.load_model_from_string(quantized_onnx_model([block], random_folded_weights([block]), random_inputs([block])))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (stored["block.conv.weight_quantized"].dtype, stored["block.conv.weight_scale"].shape) == (np.int8, (8,))
    assert not stored["block.conv.weight_zero_point"].any()
    assert stored["block.conv.bias_quantized"].dtype == np.int32


@pytest.mark.parametrize("kind", KINDS)
def test_quantising_prints_nothing_and_gives_the_same_bytes_in_another_process_without_torch(kind: str) -> None:
    script = (
        "import sys, hashlib; sys.modules['torch'] = None\n"
        "from supernets.spaces import space\n"
        "from supernets.export.weights import random_folded_weights\n"
        "from supernets.export.quantized_inputs import random_inputs\n"
        f"from {KINDS[kind][1].__module__} import {KINDS[kind][1].__name__} as write\n"
        "tiny = space('ofa-mobilenetv3-tiny'); blocks = tiny.blocks(tiny.smallest())\n"
        "print(hashlib.sha256(write(blocks, random_folded_weights(blocks), random_inputs(blocks))).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.split()) == 1
    said = [line for line in runs[0].stderr.splitlines() if "XNNPACK delegate" not in line]
    assert said == []


def test_inputs_for_ranges_must_fit_the_network() -> None:
    block = BlockSpec("conv_bn", 8, 3, 4)
    assert [len(batch) for batch in batches_of([block], np.zeros((7, 3, 8, 8)), 3)] == [3, 3]
    for shape, batch in (((4, 3, 9, 9), 1), ((4, 8, 8, 3), 1), ((2, 3, 8, 8), 3), ((0, 3, 8, 8), 1)):
        with pytest.raises(ValueError, match="inputs for activation ranges have the shape"):
            list(batches_of([block], np.zeros(shape), batch))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    block = BlockSpec("conv_bn", 8, 3, 4)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"'onnxruntime'.*elastic-latency\[onnx\]"):
        quantized_onnx_model([block], random_folded_weights([block]), random_inputs([block]))
