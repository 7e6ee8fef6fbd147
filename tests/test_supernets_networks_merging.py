# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F

from supernets import spaces
from supernets.blocks import BlockSpec
from supernets.export.weights import fold
from supernets.networks.branched import BranchedOperations, BranchedSupernet, branched_forward, calibrate_branches
from supernets.networks.branches import branched_convolution, branched_slices, inner_name, kept_branches, possible_branches
from supernets.networks.functional import batch_norm, forward, no_norm, running_norm
from supernets.networks.merging import merged, merged_pair, random_branched_tensors
from supernets.spaces.repnas import BRANCHES, KXK, POINT_KXK

pytestmark = pytest.mark.torch

CHANNELS = 8


def block(kernel_size: int, stride: int, groups: int, operator: str = "conv_bias") -> BlockSpec:
    return BlockSpec(operator, 11, CHANNELS, CHANNELS, kernel_size=kernel_size, stride=stride, groups=groups, activation="relu", name="b")


def images(blocks, count: int = 2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, blocks[0].in_channels, blocks[0].input_side, blocks[0].input_side, generator=generator).to(dtype)


def double(tensors):
    return {name: tensor.double() for name, tensor in tensors.items()}


def error(blocks, kept, own_weights: bool = False, seed: int = 0) -> float:
    """Largest difference between the branched network and the plain one it merges into; maps are of the order of 1."""
    tensors = double(random_branched_tensors(blocks, kept, torch.Generator().manual_seed(seed), own_weights))
    x = images(blocks)
    branched = branched_forward(blocks, x, tensors, kept)
    assert branched.abs().max() > 0.1
    return float((forward(blocks, x, merged(blocks, tensors, kept), running_norm) - branched).abs().max())


def subsets(branches):
    return [*((branch,) for branch in branches), *itertools.combinations(branches, 2), tuple(branches)]


@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_every_branch_every_pair_and_all_merge_into_one_convolution(kernel_size, stride, groups, own_weights):
    blocks = [block(kernel_size, stride, groups)]
    branches = possible_branches(branched_convolution(blocks[0]))
    assert len(branches) == (7 if stride == 1 else 6)
    errors = {kept: error(blocks, {"b.conv": kept}, own_weights) for kept in subsets(branches)}
    assert max(errors.values()) < 1e-10, max(errors, key=errors.__getitem__)


@pytest.mark.parametrize("channels", [(6, 9), (9, 6)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("own_weights", [False, True])
def test_blocks_that_change_their_width_merge(channels, groups, own_weights):
    source, out = channels
    blocks = [BlockSpec("conv_bias", 9, source, out, kernel_size=3, stride=2, groups=groups, activation="none", name="b")]
    assert error(blocks, {"b.conv": BRANCHES[:-1]}, own_weights) < 1e-10


@pytest.mark.parametrize("operator", ["conv_bn", "conv_bias"])
def test_a_convolution_with_a_norm_merges_like_one_with_a_bias(operator):
    assert error([block(3, 1, 1, operator)], {"b.conv": BRANCHES}) < 1e-10


def test_in_float32_the_error_is_of_rounding():
    blocks, kept = [block(5, 1, 1)], {"b.conv": BRANCHES}
    tensors = random_branched_tensors(blocks, kept, torch.Generator().manual_seed(0))
    x = images(blocks, dtype=torch.float32)
    branched, plain = branched_forward(blocks, x, tensors, kept), forward(blocks, x, merged(blocks, tensors, kept), running_norm)
    assert plain.dtype == torch.float32
    assert float((plain - branched).abs().max()) <= 1e-5 * max(1.0, float(branched.abs().max()))


class PaddedBehindTheNorm(BranchedOperations):
    """The fault: zeros around the map of the inner norm, where the merged convolution has that norm's answer to zero."""

    def _two_parts(self, x, convolution, branch):
        middle, groups = slice(convolution.padding, convolution.padding + 1), convolution.groups
        weight = self._tensors[f"{convolution.name}.weight"][..., middle, middle]
        y = self._norm(F.conv2d(x, weight, groups=groups), inner_name(convolution, branch), self._tensors)
        outer = self._tensors[f"{convolution.name}.{branch}.weight"]
        return F.conv2d(y, outer, None, convolution.stride, convolution.padding, 1, groups)


@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_padding_behind_the_norm_would_differ_at_the_border_and_only_there(kernel_size, groups):
    blocks, kept = [replace(block(kernel_size, 1, groups), activation="none")], {"b.conv": (POINT_KXK,)}
    tensors, x = double(random_branched_tensors(blocks, kept, torch.Generator().manual_seed(0))), images(blocks)
    convolution = branched_convolution(blocks[0])
    plain = forward(blocks, x, merged(blocks, tensors, kept), running_norm)
    wrong = PaddedBehindTheNorm(tensors, running_norm, kept).convolution(x, convolution)
    difference, border = (plain - wrong).abs(), slice(kernel_size // 2, -(kernel_size // 2))
    assert difference.max() > 1e-3
    assert difference[..., border, border].max() < 1e-10


@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_what_is_merged_is_of_the_type_and_on_the_device_of_its_tensors(dtype, groups, own_weights):
    blocks = [block(3, 1, groups, "conv_bn"), replace(block(5, 1, groups), name="c")]
    kept = {"b.conv": BRANCHES, "c.conv": BRANCHES}
    tensors = random_branched_tensors(blocks, kept, torch.Generator().manual_seed(0), own_weights)
    plain = merged(blocks, {name: tensor.to("meta", dtype) for name, tensor in tensors.items()}, kept)
    assert {(tensor.device.type, tensor.dtype) for tensor in plain.values()} == {("meta", dtype)}


# --- whole networks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repnas():
    space = spaces.space("repnas-tiny:skeleton=mg2")
    architecture = space.sample(np.random.default_rng(0))
    blocks = space.blocks(architecture)
    return space, architecture, blocks, kept_branches(blocks, architecture)


def test_a_whole_network_merges_after_its_norms_are_calibrated(repnas):
    _, _, blocks, kept = repnas
    tensors = random_branched_tensors(blocks, kept, torch.Generator().manual_seed(1))
    x = images(blocks, 8, torch.float32)
    tensors.update(calibrate_branches(blocks, tensors, kept, [x[:4], x[4:]]))
    branched, plain = branched_forward(blocks, x, tensors, kept), merged(blocks, tensors, kept)
    logits = forward(blocks, x, plain, running_norm)
    assert float((logits - branched).abs().max()) < 1e-4
    assert torch.equal(logits.argmax(1), branched.argmax(1))
    assert set(plain) == {f"{c.name}.{part}" for block in blocks for c in block.convolutions() for part in ("weight", "bias")}


def test_a_supernet_answers_on_its_own_device_with_gates_that_stay_on_theirs(repnas):
    space, _, blocks, kept = repnas
    x = images(blocks, dtype=torch.float32).to("meta")
    tensors = branched_slices(blocks, BranchedSupernet(space).to("meta").tensors(), kept)
    gates = {f"{name}.{branch}": torch.ones((), requires_grad=True) for name, branches in kept.items() for branch in branches}
    logits = branched_forward(blocks, x, tensors, kept, batch_norm, gates)
    assert (logits.device.type, logits.dtype) == ("meta", torch.float32)


def by_onnx(blocks, weights, x):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from supernets.export.onnx_graph import onnx_model

    (found,) = onnxruntime.InferenceSession(onnx_model(blocks, weights)).run(None, {"input": x})
    return found


def by_tflite(blocks, weights, x):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    from supernets.export.tflite_graph import tflite_model

    interpreter = interpreters.Interpreter(model_content=tflite_model(blocks, weights), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.transpose(0, 2, 3, 1))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("run", [by_onnx, by_tflite])
def test_merged_networks_are_written_and_run_as_graphs_that_answer_like_the_branches(repnas, run):
    space, _, _, _ = repnas
    for seed in range(3):
        architecture = space.sample(np.random.default_rng(seed))
        blocks = space.blocks(architecture)
        kept = kept_branches(blocks, architecture)
        tensors = random_branched_tensors(blocks, kept, torch.Generator().manual_seed(seed))
        x = images(blocks, 1, torch.float32)
        plain = {name: tensor.numpy() for name, tensor in merged(blocks, tensors, kept).items()}
        expected = branched_forward(blocks, x, tensors, kept).numpy()
        assert np.abs(run(blocks, fold(plain, blocks), x.numpy()) - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_the_graphs_of_two_choices_of_branches_differ_in_numbers_alone(repnas):
    onnx = pytest.importorskip("onnx")
    from supernets.export.onnx_graph import onnx_model

    space, _, blocks, _ = repnas
    choices = kept_branches(blocks, space.largest()), kept_branches(blocks, space.smallest())
    assert set(choices[1].values()) == {(KXK,)}
    pair = merged_pair(blocks, *choices)
    graphs = [onnx.load_from_string(onnx_model(blocks, weights)).graph for weights in pair]
    shown = [([(node.op_type, list(node.input), str(node.attribute)) for node in graph.node],
              [(tensor.name, list(tensor.dims)) for tensor in graph.initializer]) for graph in graphs]  # fmt: skip
    assert shown[0] == shown[1]
    assert any(not np.array_equal(pair[0][name], pair[1][name]) for name in pair[0])


# --- inside elastic networks of other spaces ----------------------------------------------------------------------------


def test_branches_of_a_mobile_block_are_sliced_and_then_merged():
    largest = BlockSpec("mbconv", 12, 16, 24, 96, kernel_size=7, stride=1, se_channels=24, activation="h_swish", name="stage1.block1")
    kept = {"stage1.block1.depthwise": BRANCHES}
    supernet = double(random_branched_tensors([largest], kept, torch.Generator().manual_seed(0)))
    for size in (7, 5):
        supernet[f"stage1.block1.depthwise.{size}to{size - 2}_matrix"] = torch.randn((size - 2) ** 2, (size - 2) ** 2).double()
    x = images([largest])
    for mid_channels, kernel_size, stride, se_channels in ((48, 3, 1, 16), (64, 5, 2, 16), (96, 7, 1, 24)):
        child = BlockSpec("mbconv", 12, 16, 24, mid_channels, kernel_size, stride, se_channels, "h_swish", name="stage1.block1")
        child_kept = {name: possible_branches(branched_convolution(child)) for name in kept}
        tensors = branched_slices([child], supernet, child_kept)
        statistics = calibrate_branches([child], tensors, child_kept, [x, x + 1])
        tensors.update({name: tensor.double() for name, tensor in statistics.items()})
        plain = merged([child], tensors, child_kept)
        assert plain["stage1.block1.depthwise.weight"].shape == (mid_channels, 1, kernel_size, kernel_size)
        expected = branched_forward([child], x, tensors, child_kept)
        assert float((forward([child], x, plain, running_norm) - expected).abs().max()) < 1e-10
        folded = {name: torch.from_numpy(value) for name, value in fold({n: t.numpy() for n, t in plain.items()}, [child]).items()}
        assert float((forward([child], x.float(), folded, no_norm) - expected).abs().max()) < 1e-4


def test_a_convolution_without_branches_keeps_its_own_tensors():
    blocks = [block(3, 1, 1, "conv_bn"), BlockSpec("conv_bn", 11, CHANNELS, 4, activation="relu", name="c")]
    kept = {"b.conv": (KXK,)}
    tensors = random_branched_tensors(blocks, kept, torch.Generator().manual_seed(0))
    plain = merged(blocks, tensors, kept)
    assert all(torch.equal(plain[name], tensors[name]) for name in plain if name.startswith("c."))
    x = images(blocks, dtype=torch.float32)
    torch.testing.assert_close(forward(blocks, x, plain, running_norm), forward(blocks, x, tensors, running_norm))
