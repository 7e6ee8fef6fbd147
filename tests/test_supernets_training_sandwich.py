# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F

from supernets import spaces
from supernets.networks.functional import batch_norm, forward
from supernets.networks.slicing import child_tensors
from supernets.networks.supernet import Supernet
from supernets.training import run as run_module
from supernets.training.children import Child, drawn_children, dropout_of, loss_of
from supernets.training.images import augmented, network_input
from supernets.training.loop import train
from supernets.training.phases import Phase
from supernets.training.recipes import recipe
from supernets.training.repnas_sampler import Drawn
from supernets.training.run import AUGMENTATION, ORDER, Run
from supernets.training.sandwich import RULE, small
from tests.test_supernets_training_loop import columns

pytestmark = pytest.mark.torch

SPACE = "bignas-tiny:resolutions=8/12,classes=3"
RECIPE = replace(small(2), batch_size=16, gradient_norm=None, weight_decay=0.0)


@pytest.fixture(scope="module")
def space():
    return spaces.space(SPACE)


@pytest.fixture(scope="module")
def images():
    return columns()


def spied(monkeypatch, name, notes):
    """Note the arguments of calls to a function of the run's module."""
    original = getattr(run_module, name)

    def spy(*arguments):
        result = original(*arguments)
        notes.append((arguments, result))
        return result

    monkeypatch.setattr(run_module, name, spy)


def test_a_step_draws_the_largest_two_random_ones_and_the_smallest_each_at_its_own_resolution(space, images, monkeypatch):
    notes = []
    spied(monkeypatch, "answers", notes)
    run = Run(space, images, RECIPE, 0)
    for _ in range(6):
        run.advance()
    drawn = [arguments[1] for arguments, _ in notes]
    assert [child.kind for child in drawn] == ["largest", "random", "random", "smallest"] * 6
    assert {child.architecture for child in drawn[::4]} == {space.largest()}
    assert {child.architecture for child in drawn[3::4]} == {space.smallest()}
    random = [child.architecture for child in drawn if child.kind == "random"]
    assert len(set(random)) == 12 and {architecture["resolution"] for architecture in random} == {8, 12}
    sides = [arguments[2].shape[-1] for arguments, _ in notes]
    assert sides == [child.architecture["resolution"] for child in drawn]


def test_only_the_largest_has_dropout(space, images, monkeypatch):
    notes = []
    spied(monkeypatch, "answers", notes)
    Run(space, images, RECIPE, 0).advance()
    assert [arguments[5] for arguments, _ in notes] == [0.1, 0, 0, 0]
    everywhere = replace(RECIPE.phases[0], dropout_on="all")
    assert [dropout_of(everywhere, Child(i, kind, Drawn(space.largest()))) for i, kind in enumerate(everywhere.children)] == [0.1] * 4


def test_the_children_learn_from_the_largest_and_not_from_the_labels(space, images, monkeypatch):
    notes = []
    spied(monkeypatch, "loss_of", notes)
    gradients = []
    for labels in (images.train_labels, (images.train_labels + 1) % 3):
        run = Run(space, replace(images, train_labels=labels), RECIPE, 0)
        run.advance()
        gradients.append({name: tensor.grad.clone() for name, tensor in run.supernet.tensors().items()})
    losses = np.array([float(result.detach()) for _, result in notes]).reshape(2, 4)
    assert losses[0, 0] != losses[1, 0]
    assert losses[0, 1:].tolist() == losses[1, 1:].tolist()
    assert any(not torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    taught = [arguments[4] for arguments, _ in notes[:4]]
    largest = notes[0][0][2].detach().softmax(1)
    assert taught[0] is None and all(torch.equal(target, largest) and not target.requires_grad for target in taught[1:])


@pytest.mark.parametrize("phase", [Phase("p", 1, 0.1, **{**RULE, "distillation_ratio": 0.5})])
def test_the_loss_of_a_child_is_the_soft_cross_entropy_alone(space, phase):
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn((4, 3), generator=generator), torch.randn((4, 3), generator=generator).softmax(1)
    labels = torch.tensor([0, 1, 2, 0])
    child = Child(1, "random", Drawn(space.largest()))
    expected = -(teacher * logits.log_softmax(1)).sum(1).mean()
    assert float(loss_of(phase, child, logits, labels, teacher, 0.1)) == pytest.approx(0.5 * float(expected), rel=1e-6)
    assert float(loss_of(phase, replace(child, number=0, kind="largest"), logits, labels, None, 0.1)) == pytest.approx(
        float(F.cross_entropy(logits, labels, label_smoothing=0.1)), rel=1e-6
    )


def test_gradients_of_the_four_are_summed_into_one_step(space, images, monkeypatch):
    """The whole step written out again, with plain SGD instead of the optimizer."""
    plain = replace(RECIPE, phases=(replace(RECIPE.phases[0], dropout=0.0, warmup_epochs=0.0),))
    steps = []
    original = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *args: (steps.append(1), original(self, *args))[1])
    run = Run(space, images, plain, 3)
    before = {name: tensor.detach().clone().requires_grad_() for name, tensor in run.supernet.tensors().items()}
    run.advance()
    assert len(steps) == 1

    order = np.random.default_rng([3, ORDER, 0, 0]).permutation(64)[:16]
    pixels = augmented(images.train_images[order], np.random.default_rng([3, AUGMENTATION, 0]), 2, True)
    labels = torch.from_numpy(images.train_labels[order])
    drawn = drawn_children(plain.phases[0], space, np.random.default_rng(), lambda i: np.random.default_rng([3, run_module.CHILD, 0, i]), None)
    total, taught = torch.zeros(()), None
    for child in drawn:
        blocks = space.blocks(child.architecture)
        logits = forward(blocks, network_input(pixels, blocks[0].input_side), child_tensors(blocks, before), batch_norm)
        if taught is None:
            total, taught = F.cross_entropy(logits, labels, label_smoothing=plain.label_smoothing), logits.detach().softmax(1)
        else:
            total = total - (taught * logits.log_softmax(1)).sum(1).mean()
    total.backward()
    rate = plain.phases[0].learning_rate * (1 + plain.momentum)  # the first step of Nesterov's momentum
    for name, tensor in run.supernet.tensors().items():
        wanted = before[name].detach() - rate * before[name].grad
        assert torch.allclose(tensor.detach(), wanted, atol=1e-6), name


def test_training_begins_with_blocks_that_are_their_shortcuts(space, images):
    run = Run(space, images, RECIPE, 0)
    scales = [tensor for name, tensor in run.supernet.tensors().items() if name.endswith("project.bn.weight")]
    assert len(scales) == 8 and all(not tensor.any() for tensor in scales)
    run.advance()
    assert any(tensor.any() for tensor in scales)
    fresh = Supernet(space, False)
    assert all(tensor.all() for name, tensor in fresh.tensors().items() if name.endswith("project.bn.weight"))


def test_the_sandwich_learns_in_both_ways(space, images, tmp_path):
    for distilled in (True, False):
        learning = replace(small(10, distilled), batch_size=16, crop_padding=0, flip=False)
        summary = train(space, images, learning, tmp_path / str(distilled))
        assert summary.history[0]["validation_top1"]["largest"] > 0.6 > 1 / 3


def test_recipes_say_what_the_paper_does():
    of = recipe("bignas")
    phase = of.phases[0]
    assert phase.children == ("largest", "random", "random", "smallest")
    assert (phase.teacher, phase.distillation_ratio, phase.dropout, phase.dropout_on, phase.resolution) == ("in_place", 1.0, 0.2, "largest", "own")
    assert (phase.schedule, of.zero_last_norms, of.kernel_transform, of.weight_decay) == ("exponential", True, False, 1e-5)
    assert recipe("bignas-small").phases[0].children == phase.children


@pytest.mark.parametrize("children", [("random", "largest"), ("largest", "largest"), ("smallest",)])
def test_an_in_place_teacher_that_does_not_come_first_is_refused(children):
    with pytest.raises(ValueError, match="it comes first and once"):
        Phase("p", 1, 0.1, children=children, teacher="in_place", distillation_ratio=1.0)


def test_children_of_a_shared_resolution_have_one(space):
    phase = replace(RECIPE.phases[0], resolution="shared")
    drawn = list(drawn_children(phase, space, np.random.default_rng(0), np.random.default_rng, None))
    assert len({child.architecture["resolution"] for child in drawn}) == 1
