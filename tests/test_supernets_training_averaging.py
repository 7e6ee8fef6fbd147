# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.checkpoint import load_supernet
from supernets.training.averaging import Averages
from supernets.training.loop import train
from supernets.training.phases import Phase, Recipe
from supernets.training.run import Run
from tests.test_supernets_training_loop import Stopped, columns, stop_at, weights

pytestmark = pytest.mark.torch

SPACE = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"
ONE = {"depth": (2,)}
RECIPE = Recipe("averaged", (Phase("one", 1, 0.05, ONE), Phase("two", 1, 0.05, ONE, actions=("sort_channels",))), batch_size=16, averaging=0.9)


def test_averages_keep_the_share_of_the_decay_and_forget_the_start_fast():
    averages = Averages({"w": torch.zeros(2)}, 0.75)
    assert [averages.kept(step) for step in (0, 8, 10**6)] == pytest.approx([0.1, 0.5, 0.75])
    averages.update({"w": torch.ones(2)}, 8)
    assert averages.tensors["w"].tolist() == [0.5, 0.5]
    averages.update({"w": torch.ones(2)}, 10**6)
    assert averages.tensors["w"].tolist() == [0.625, 0.625]


def test_averages_are_of_their_own_memory():
    weight = torch.ones(1, requires_grad=True)
    averages = Averages({"w": weight}, 0.5)
    averages.update({"w": weight * 3}, 10**6)
    assert weight.item() == 1 and averages.tensors["w"].item() == 2 and not averages.tensors["w"].requires_grad


def test_a_phase_ends_with_the_averages_of_its_steps():
    space, images = spaces.space(SPACE), columns()
    run = Run(space, images, replace(RECIPE, phases=RECIPE.phases[:1]), 0)
    plain = Run(space, images, replace(RECIPE, phases=RECIPE.phases[:1], averaging=None), 0)
    averages = Averages(plain.supernet.tensors(), 0.9)
    for step in range(plain.steps):
        assert run.advance() == plain.advance()
        averages.update(plain.supernet.tensors(), step)
    assert all(torch.equal(tensor.detach(), averages.tensors[name]) for name, tensor in run.supernet.tensors().items())


@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_run_stopped_ends_with_the_same_averages(tmp_path, step):
    space, images = spaces.space(SPACE), columns()
    whole = train(space, images, RECIPE, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(space, images, RECIPE, tmp_path / "stopped", progress=stop_at(step), checkpoint_steps=1)
    summary = train(space, images, RECIPE, tmp_path / "stopped")
    assert 0 < summary.trained_steps < summary.steps
    assert weights(summary.weights) == weights(whole.weights) and summary.history == whole.history
    assert load_supernet(summary.weights).tensors()


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match="averaging of recipe 'averaged' is 1.0; expected more than 0 and less than 1"):
        replace(RECIPE, averaging=1.0)
