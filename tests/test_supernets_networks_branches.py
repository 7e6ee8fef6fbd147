# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F

from supernets import spaces
from supernets.blocks import BlockSpec
from supernets.networks.branched import BranchedSupernet, branched_forward, calibrate_branches, merged_child
from supernets.networks.branches import (
    branch_shapes,
    branch_weight,
    branched_convolution,
    branched_slices,
    kept_branches,
    norm_channels,
    possible_branches,
)
from supernets.networks.calibration import calibrate
from supernets.networks.functional import batch_norm, forward, running_norm
from supernets.networks.gates import BranchBudget, BranchGates
from supernets.networks.merging import random_branched_tensors
from supernets.space import Choice
from supernets.spaces.repnas import BRANCHES, COLUMN, KXK, POINT, POINT_AVERAGE, POINT_KXK, ROW, SKIP
from supernets.spaces.repnas import branches as branches_of_space

pytestmark = pytest.mark.torch

BLOCK = BlockSpec("conv_bias", 8, 6, 6, kernel_size=5, activation="relu", name="b")
NAME = "b.conv"


@pytest.fixture(scope="module")
def space():
    return spaces.space("repnas-tiny:skeleton=s,resolutions=12,classes=3")


@pytest.fixture(scope="module")
def batches():
    return [torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def test_the_space_offers_the_branches_that_its_convolutions_can_have():
    for name in ("repnas-tiny", "repnas-tiny:skeleton=mg2", "repnas"):
        space = spaces.space(name)
        for block in space.blocks(space.largest()):
            if branches_of_space(block):
                assert set(branches_of_space(block)) == set(possible_branches(branched_convolution(block)))


def test_a_smaller_kernel_is_the_centre_of_the_master():
    tensors = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0))
    convolution, master = branched_convolution(BLOCK), tensors[f"{NAME}.weight"]
    assert branch_weight(convolution, KXK, tensors) is not None
    assert torch.equal(branch_weight(convolution, KXK, tensors), master)
    assert torch.equal(branch_weight(convolution, ROW, tensors), master[:, :, 2:3, :])
    assert torch.equal(branch_weight(convolution, COLUMN, tensors), master[:, :, :, 2:3])
    for branch in (POINT, POINT_KXK, POINT_AVERAGE):
        assert torch.equal(branch_weight(convolution, branch, tensors), master[:, :, 2:3, 2:3])
    own = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0), own_weights=True)
    assert torch.equal(branch_weight(convolution, ROW, own), own[f"{NAME}.branch_1xk.weight"])
    assert not torch.equal(branch_weight(convolution, POINT_KXK, own), own[f"{NAME}.weight"][:, :, 2:3, 2:3])


def test_shared_kernels_learn_from_every_branch_and_norms_from_their_own():
    for branch in BRANCHES[:-1]:
        tensors = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0))
        tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        x = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))
        branched_forward([BLOCK], x, tensors, {NAME: (branch,)}, batch_norm).square().sum().backward()
        reached = {name for name, tensor in tensors.items() if tensor.grad is not None}
        shapes = branch_shapes(branched_convolution(BLOCK), (branch,))
        assert reached == set(shapes)
        outside = tensors[f"{NAME}.weight"].grad[..., 0, 0]  # a corner: of the master's branch alone
        assert bool((outside != 0).any()) == (branch == KXK)


def test_branches_alone_are_what_their_names_say():
    tensors = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0), own_weights=True)
    x = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))

    def norm(y, name):
        return running_norm(y, name, tensors)

    def weight(part):
        return tensors[f"{NAME}.{part}weight"]

    padded = F.pad(x, [2, 2, 2, 2])
    expected = {
        POINT: norm(F.conv2d(x, weight("branch_1x1.")), f"{NAME}.branch_1x1"),
        KXK: norm(F.conv2d(x, weight(""), padding=2), NAME),
        ROW: norm(F.conv2d(x, weight("branch_1xk."), padding=(0, 2)), f"{NAME}.branch_1xk"),
        COLUMN: norm(F.conv2d(x, weight("branch_kx1."), padding=(2, 0)), f"{NAME}.branch_kx1"),
        SKIP: norm(x, f"{NAME}.branch_skip"),
        POINT_KXK: norm(F.conv2d(norm(F.conv2d(padded, weight("branch_1x1_kxk.inner.")), f"{NAME}.branch_1x1_kxk.inner"),
                                 weight("branch_1x1_kxk.")), f"{NAME}.branch_1x1_kxk"),
        POINT_AVERAGE: norm(F.avg_pool2d(norm(F.conv2d(padded, weight("branch_1x1_avg.inner.")), f"{NAME}.branch_1x1_avg.inner"), 5, 1),
                            f"{NAME}.branch_1x1_avg"),
    }  # fmt: skip
    for branch, value in expected.items():
        torch.testing.assert_close(branched_forward([BLOCK], x, tensors, {NAME: (branch,)}), value.relu())
    together = branched_forward([BLOCK], x, tensors, {NAME: BRANCHES})
    torch.testing.assert_close(together, sum(expected.values()).relu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [8, 9])
def test_a_strided_branch_of_one_pixel_is_no_strided_convolution(side, monkeypatch):
    block = replace(BLOCK, input_side=side, stride=2)
    tensors = random_branched_tensors([block], {NAME: [POINT]}, torch.Generator().manual_seed(0))
    weight = tensors[f"{NAME}.weight"].requires_grad_()
    x = torch.randn(2, 6, side, side, generator=torch.Generator().manual_seed(1))
    strided = F.conv2d(x, weight[..., 2:3, 2:3], None, 2)
    wanted = F.relu(F.batch_norm(strided, None, None, tensors[f"{NAME}.{POINT}.bn.weight"], tensors[f"{NAME}.{POINT}.bn.bias"], training=True))
    strides, convolve = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, weight, bias, stride, *others: strides.append(stride) or convolve(x, weight, bias, stride, *others))
    found = branched_forward([block], x, tensors, {NAME: [POINT]}, batch_norm)
    assert strides == [1], "oneDNN may write outside its memory at another"
    torch.testing.assert_close(found, wanted)
    seen = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(*(torch.autograd.grad(answer, weight, seen)[0] for answer in (found, wanted)), atol=1e-4, rtol=1e-4)


def test_gates_scale_their_branches():
    tensors = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0))
    x, kept = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1)), {NAME: (KXK, POINT)}
    gates = {f"{NAME}.branch_1x1": torch.tensor(0.0), f"{NAME}.branch_kxk": torch.tensor(1.0)}
    gated = branched_forward([BLOCK], x, tensors, kept, gates=gates)
    torch.testing.assert_close(gated, branched_forward([BLOCK], x, tensors, {NAME: (KXK,)}))


def test_a_gate_learns_how_much_its_branch_answers_what_is_wanted():
    block = replace(BLOCK, activation="none")
    tensors = random_branched_tensors([block], {NAME: BRANCHES}, torch.Generator().manual_seed(0))
    x, wanted = torch.randn(2, 2, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    learner = BranchGates((f"b.{branch}" for branch in BRANCHES), BranchBudget(limit=3))
    scores = learner.scores(np.random.default_rng(2))
    gates = {name.replace("b.", f"{NAME}."): gate for name, gate in learner.gates(scores).items()}
    kept = tuple(branch for branch in BRANCHES if f"{NAME}.{branch}" in gates)
    (wanted * branched_forward([block], x, tensors, {NAME: kept}, batch_norm, gates)).sum().backward()
    soft = torch.sigmoid(scores.detach())
    for i, branch in enumerate(BRANCHES):
        alone = (wanted * branched_forward([block], x, tensors, {NAME: (branch,)}, batch_norm)).sum() if branch in kept else torch.tensor(0.0)
        torch.testing.assert_close(learner.alpha.grad[i], alone * soft[i] * (1 - soft[i]), rtol=1e-4, atol=1e-4)


def test_an_architecture_that_keeps_no_branch_of_a_block_keeps_the_convolution(space):
    smallest = space.smallest()
    assert set(kept_branches(space.blocks(smallest), smallest).values()) == {(KXK,)}
    largest = space.largest()
    kept = kept_branches(space.blocks(largest), largest)
    assert sum(map(len, kept.values())) == len(space.choices) - 1


def test_a_plain_space_has_no_branches():
    space = spaces.space("ofa-mobilenetv3-tiny")
    assert kept_branches(space.blocks(space.largest()), space.largest()) == {}


@pytest.mark.parametrize("own_weights", [False, True])
def test_a_supernet_of_branches_slices_every_architecture(space, batches, own_weights):
    supernet = BranchedSupernet(space, own_weights, seed=3)
    for seed in range(5):
        architecture = space.sample(np.random.default_rng(seed))
        blocks = space.blocks(architecture)
        kept = kept_branches(blocks, architecture)
        child = supernet.child(architecture)
        logits = branched_forward(blocks, batches[0], child, kept, batch_norm)
        assert logits.shape == (8, 3)
        assert torch.equal(logits, supernet(batches[0], architecture))


def test_a_fresh_supernet_is_the_same_for_the_same_seed_and_holds_no_bias_of_a_branched_convolution(space):
    one, same, other = (BranchedSupernet(space, True, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stage1.block0.conv.branch_1xk.weight"], other["stage1.block0.conv.branch_1xk.weight"])
    assert [name for name in one if name.endswith(".bias") and ".bn." not in name] == ["classifier.conv.bias"]
    inner = one["stage1.block0.conv.branch_1x1_kxk.inner.weight"]
    assert torch.equal(inner[:, :, 0, 0], torch.eye(len(inner)))


def test_calibration_measures_every_norm_and_leaves_images_and_weights_alone(space, batches):
    supernet = BranchedSupernet(space)
    architecture = space.largest()
    blocks, kept, child = space.blocks(architecture), kept_branches(space.blocks(architecture), architecture), supernet.child(architecture)
    before = {name: tensor.clone() for name, tensor in child.items()}, [batch.clone() for batch in batches]
    statistics = calibrate_branches(blocks, child, kept, batches)
    norms = [norm for b in blocks if b.operator == "conv_bias" for norm in norm_channels(branched_convolution(b), kept[f"{b.name}.conv"])]
    assert set(statistics) == {f"{name}.bn.{part}" for name in norms for part in ("running_mean", "running_var")}
    assert all(torch.equal(child[name], tensor) for name, tensor in before[0].items())
    assert all(torch.equal(*pair) for pair in zip(batches, before[1], strict=True))
    # with one batch, its own statistics are the calibrated ones (up to the biased variance that both use)
    own = {**child, **calibrate_branches(blocks, child, kept, batches[:1])}
    torch.testing.assert_close(
        branched_forward(blocks, batches[0], own, kept, running_norm), supernet(batches[0], architecture), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate_branches(blocks, child, kept, [])


def test_without_branches_calibration_is_the_plain_one():
    plain = BlockSpec("conv_bn", 8, 6, 6, kernel_size=3, name="b")
    tensors = {name: t for name, t in random_branched_tensors([plain], {}, torch.Generator().manual_seed(0)).items() if "running" not in name}
    x = [torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(1))]
    one, other = calibrate([plain], tensors, x), calibrate_branches([plain], tensors, {}, x)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_merged_child_is_a_plain_network_that_answers_the_same(space, batches):
    supernet = BranchedSupernet(space, seed=4)
    architecture = space.sample(np.random.default_rng(1))
    blocks = space.blocks(architecture)
    plain = merged_child(space, supernet.tensors(), architecture, batches)
    kept, child = kept_branches(blocks, architecture), {name: tensor.detach() for name, tensor in supernet.child(architecture).items()}
    expected = branched_forward(blocks, batches[1], {**child, **calibrate_branches(blocks, child, kept, batches)}, kept)
    torch.testing.assert_close(forward(blocks, batches[1], plain), expected, rtol=1e-4, atol=1e-4)
    assert not any(tensor.requires_grad for tensor in plain.values())


def test_branches_that_cannot_be_are_refused():
    strided = BlockSpec("conv_bias", 8, 6, 6, kernel_size=3, stride=2, name="b")
    tensors = random_branched_tensors([strided], {NAME: (KXK,)}, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="'b.conv' is given the branches \\['branch_skip'\\]; expected one or more of branch_1x1, branch_kxk"):
        branched_slices([strided], tensors, {NAME: (SKIP,)})
    with pytest.raises(ValueError, match="given the branches \\[\\]"):
        branched_slices([strided], tensors, {NAME: ()})
    with pytest.raises(ValueError, match="block 'p' .* has no convolution of a kernel above 1"):
        branched_convolution(BlockSpec("conv_bn", 8, 6, 6, name="p"))
    assert possible_branches(next(BlockSpec("conv_bn", 8, 6, 6, name="p").convolutions())) == ()


def test_tensors_too_small_for_the_branches_are_refused_by_name():
    tensors = random_branched_tensors([BLOCK], {NAME: BRANCHES}, torch.Generator().manual_seed(0))
    small = {**tensors, f"{NAME}.branch_1x1_kxk.weight": tensors[f"{NAME}.branch_1x1_kxk.weight"][:, :5]}
    with pytest.raises(ValueError, match=r"'b\.conv\.branch_1x1_kxk\.weight'.*\(6, 5, 5, 5\); expected at least \(6, 6, 5, 5\)"):
        branched_slices([BLOCK], small, {NAME: BRANCHES})


def test_an_elastic_space_may_have_branches_too():
    plain = spaces.space("ofa-mobilenetv3-tiny:resolutions=16,classes=3")
    places = ("stage1.block0", "stage2.block1")
    choices = [Choice(f"{place}.{branch}", (0, 1)) for place in places for branch in BRANCHES[: 7 if place.endswith("1") else 6]]
    space = replace(plain, choices=(*plain.choices, *choices))
    supernet = BranchedSupernet(space, kernel_transform=True, seed=2)
    with torch.no_grad():
        for name, tensor in supernet.tensors().items():
            if name.endswith("_matrix"):
                tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(tensor)))
    images = [torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    for seed in range(4):
        architecture = space.sample(np.random.default_rng(seed))
        blocks = space.blocks(architecture)
        kept, child = kept_branches(blocks, architecture), {name: t.detach() for name, t in supernet.child(architecture).items()}
        assert set(kept) <= {f"{place}.depthwise" for place in places}
        expected = branched_forward(blocks, images[0], {**child, **calibrate_branches(blocks, child, kept, images)}, kept)
        torch.testing.assert_close(forward(blocks, images[0], merged_child(space, supernet.tensors(), architecture, images)), expected,
                                   rtol=1e-4, atol=1e-4)  # fmt: skip
