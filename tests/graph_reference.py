"""Blocks computed a second time: in PyTorch, apart from the walk, in float64, with norms unfolded; and the runtimes beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from supernets.blocks import BlockSpec
from supernets.counts import block_tensors
from supernets.export.onnx_graph import onnx_model
from supernets.export.tflite_graph import tflite_model
from supernets.export.weights import fold

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")
functional = torch.nn.functional

TOLERANCE = 1e-5  # of the largest value of the output
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "h_swish": lambda x: x * functional.relu6(x + 3) / 6,
    "h_sigmoid": lambda x: functional.relu6(x + 3) / 6,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "swish": lambda x: x / (1 + (-x).exp()),
}


def random_state(blocks: Iterable[BlockSpec], seed: int = 0) -> dict[str, np.ndarray]:
    """Return unfolded tensors with random norms, and one that no block names."""
    rng = np.random.default_rng(seed)
    state = {"unused": np.zeros(3, np.float32)}
    for block in blocks:
        for name, shape in block_tensors(block).items():
            if name.endswith(".bn.weight"):
                state[name] = rng.uniform(0.5, 1, shape)  # below 1 on average: in a deep network maps keep their scale
                state[name.replace("weight", "running_mean")] = rng.normal(0, 0.2, shape)
                state[name.replace("weight", "running_var")] = rng.uniform(0.5, 2, shape)
            else:
                state[name] = rng.normal(0, 0.2 if len(shape) == 1 else math.sqrt(2 / math.prod(shape[1:])), shape)
    return {name: value.astype(np.float32) for name, value in state.items()}


def random_images(block: BlockSpec, batch: int = 1) -> np.ndarray:
    shape = (batch, block.in_channels, block.input_side, block.input_side)
    images = np.random.default_rng(7).standard_normal(shape, dtype=np.float32)
    return np.abs(images) if block.operator == "max_pool" else images


def reference(blocks: Iterable[BlockSpec], state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    tensors = {name: torch.from_numpy(value).double() for name, value in state.items()}
    x = torch.from_numpy(images).double()

    def convolved(x: Any, name: str, activation: str, stride: int = 1, groups: int = 1) -> Any:
        weight = tensors[f"{name}.weight"]
        x = functional.conv2d(x, weight, tensors.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)
        if f"{name}.bn.weight" in tensors:
            gamma, beta, mean, var = (tensors[f"{name}.bn.{part}"] for part in NORM_PARTS)
            x = functional.batch_norm(x, mean, var, gamma, beta, eps=1e-5)
        return ACTIVATIONS[activation](x)

    def gated(x: Any, block: BlockSpec) -> Any:
        if not block.se_channels:
            return x
        squeezed = convolved(functional.adaptive_avg_pool2d(x, 1), f"{block.name}.se_reduce", block.se_activation)
        return x * convolved(squeezed, f"{block.name}.se_expand", block.se_gate)

    def pooled(x: Any, size: int) -> Any:
        """Average windows as the definition says, those at the far border over what is there."""
        ones = torch.ones_like(x[:1, :1])
        sums, counts = (
            functional.pad(map_, (0, -map_.shape[-1] % size) * 2).unfold(2, size, size).unfold(3, size, size).sum((-1, -2)) for map_ in (x, ones)
        )
        return sums / counts

    for block in blocks:
        name, before = block.name, x
        if block.operator == "pool":
            x = functional.adaptive_avg_pool2d(x, 1)
        elif block.operator == "max_pool":
            x = functional.max_pool2d(x, block.kernel_size, block.stride, block.kernel_size // 2)
        elif block.operator == "linear":
            x = functional.linear(x.flatten(1), tensors[f"{name}.conv.weight"].flatten(1), tensors[f"{name}.conv.bias"])
        elif block.operator == "bottleneck":
            x = convolved(x, f"{name}.reduce", block.activation)
            x = gated(convolved(x, f"{name}.spatial", block.activation, block.stride, block.groups), block)
            x = convolved(x, f"{name}.restore", "none")
        elif block.operator != "mbconv":
            x = gated(convolved(x, f"{name}.conv", block.activation, block.stride, block.groups), block)
        else:
            if block.mid_channels != block.in_channels:
                x = convolved(x, f"{name}.expand", block.activation)
            x = gated(convolved(x, f"{name}.depthwise", block.activation, block.stride, block.mid_channels), block)
            x = convolved(x, f"{name}.project", "none")
        if block.residual:
            source = before if block.shortcut == "identity" else pooled(before, block.stride)
            x = x + (convolved(source, f"{name}.shortcut", "none") if block.shortcut.startswith("conv") else source)
            x = ACTIVATIONS[block.activation](x) if block.operator == "bottleneck" else x
    return x.numpy()


def run_onnx(model: bytes, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": images})[0]


def run_litert(model: bytes, images: np.ndarray) -> np.ndarray:
    """Return the output as NCHW, after checking that XNNPACK runs the graph as one partition."""
    runner = interpreter.Interpreter(model_content=model, num_threads=1)
    runner.allocate_tensors()
    (source,), (result,) = runner.get_input_details(), runner.get_output_details()
    assert (source["name"], result["name"]) == ("input", "output")
    delegates = [node for node in runner._get_ops_details() if node["op_name"] == "DELEGATE"]
    # A node left out at either end would stand between the delegate and the graph's border, one in the middle would make two delegates.
    assert len(delegates) == 1
    assert source["index"] in delegates[0]["inputs"]
    assert list(delegates[0]["outputs"]) == [result["index"]]
    runner.set_tensor(source["index"], np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    runner.invoke()
    output = runner.get_tensor(result["index"])
    return output.transpose(0, 3, 1, 2) if output.ndim == 4 else output


def assert_both_agree(blocks: Sequence[BlockSpec], batch: int = 1) -> None:
    state, images = random_state(blocks), random_images(blocks[0], batch)
    expected = reference(blocks, state, images)
    weights = fold(state, blocks)
    graph = onnx_model(blocks, weights, batch)
    onnx.checker.check_model(graph, full_check=True)
    for output in (run_onnx(graph, images), run_litert(tflite_model(blocks, weights, batch), images)):
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() <= TOLERANCE * np.abs(expected).max(), [block.key for block in blocks]
