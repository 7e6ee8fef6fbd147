# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, load_supernet, read_tensors, write_tensors
from supernets.training.loop import train
from supernets.training.optimizers import new_optimizer
from supernets.training.phases import Phase, Recipe
from supernets.training.state import KIND
from tests.test_supernets_training_loop import LARGEST, RECIPE, Stopped, columns, stop_at, weights

pytestmark = pytest.mark.torch

RMSPROP = replace(
    RECIPE, optimizer="rmsprop", averaging=0.9, crop_scale=0.3, phases=tuple(replace(phase, learning_rate=0.005) for phase in RECIPE.phases)
)
SPACE = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"


def recipe(**others):
    return Recipe("x", (Phase("one", 1, 0.1),), weight_decay=0.01, **others)


def stepped(optimizer, tensors, gradients, learning_rate=0.1):
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]
    for gradient in gradients:
        for name, tensor in tensors.items():
            tensor.grad = None if gradient.get(name) is None else torch.tensor(gradient[name], dtype=tensor.dtype)
        optimizer.step()


def test_rmsprop_is_the_formula_of_the_papers_framework():
    rng = np.random.default_rng(0)
    values = {"conv.weight": rng.normal(size=(2, 3)), "conv.bn.weight": rng.normal(size=3)}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    gradients = [{name: rng.normal(size=value.shape) for name, value in values.items()} for _ in range(5)]
    stepped(new_optimizer(recipe(optimizer="rmsprop"), tensors), tensors, gradients)
    for name, weight in values.items():
        mean, momentum = np.ones_like(weight), np.zeros_like(weight)
        for gradient in gradients:
            g = gradient[name] + (0.01 * weight if name == "conv.weight" else 0)
            mean = 0.9 * mean + 0.1 * g * g
            momentum = 0.9 * momentum + 0.1 * g / np.sqrt(mean + 1e-3)
            weight = weight - momentum
        np.testing.assert_allclose(tensors[name].detach().numpy(), weight, rtol=1e-12)


def test_tensors_without_gradients_stay_as_they_are():
    tensors = {name: torch.ones(2, 2, requires_grad=True) for name in ("a", "b")}
    stepped(new_optimizer(recipe(optimizer="rmsprop"), tensors), tensors, [{"a": np.ones((2, 2))}] * 2)
    assert torch.equal(tensors["b"].detach(), torch.ones(2, 2)) and (tensors["a"] < 1).all()


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_scaled_weights_step_as_they_would_without_their_scale(optimizer):
    rng = np.random.default_rng(0)
    first, scale = rng.normal(size=(4, 4)), 8.0
    gradients = [rng.normal(size=(4, 4)) for _ in range(40)]
    results = []
    for s in (1.0, scale):
        tensors = {"conv.weight": torch.tensor(first * s, requires_grad=True), "conv.bn.weight": torch.ones(4).double().requires_grad_()}
        stepped(new_optimizer(recipe(optimizer=optimizer), tensors, s), tensors, [{"conv.weight": g / s} for g in gradients], 0.01)
        results.append(tensors["conv.weight"].detach().numpy() / s)
    np.testing.assert_allclose(*results, rtol=1e-9)


def test_an_unknown_optimizer_is_refused_and_old_files_have_sgd():
    with pytest.raises(ValueError, match="optimizer of recipe 'x' is 'adam'; expected one of sgd, rmsprop"):
        recipe(optimizer="adam")
    assert "optimizer" not in recipe().to_dict() and Recipe.from_dict(recipe().to_dict()).optimizer == "sgd"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(spaces.space(SPACE), columns(), RMSPROP, tmp_path_factory.mktemp("undisturbed"))


def test_a_training_by_rmsprop_stopped_at_any_step_ends_with_the_same_bits(undisturbed, tmp_path):
    space, images = spaces.space(SPACE), columns()
    for step in (1, 3, 8, 9, 13):
        with pytest.raises(Stopped):
            train(space, images, RMSPROP, tmp_path, progress=stop_at(step), checkpoint_steps=1)
    summary = train(space, images, RMSPROP, tmp_path, checkpoint_steps=1)
    assert 0 < summary.trained_steps < summary.steps == 16
    assert weights(summary.weights) == weights(undisturbed.weights) and summary.history == undisturbed.history


def test_the_mean_squares_are_kept_and_matter(undisturbed, tmp_path):
    space, images = spaces.space(SPACE), columns()
    with pytest.raises(Stopped):
        train(space, images, RMSPROP, tmp_path, progress=stop_at(4), checkpoint_steps=1)
    path = tmp_path / "checkpoint.safetensors"
    tensors, metadata = read_tensors(path, KIND)
    assert any(name.startswith("squares/") for name in tensors)
    write_tensors(path, {name: torch.ones_like(tensor) if name.startswith("squares/") else tensor for name, tensor in tensors.items()}, metadata)
    assert weights(train(space, images, RMSPROP, tmp_path).weights) != weights(undisturbed.weights)


def test_a_checkpoint_with_squares_of_other_tensors_is_refused(tmp_path):
    with pytest.raises(Stopped):
        train(spaces.space(SPACE), columns(), RMSPROP, tmp_path, progress=stop_at(3), checkpoint_steps=1)
    path = tmp_path / "checkpoint.safetensors"
    tensors, metadata = read_tensors(path, KIND)
    write_tensors(path, {**tensors, "squares/nothing": torch.ones(1)}, metadata)
    with pytest.raises(CheckpointError, match="holds tensor .nothing. of another supernet"):
        train(spaces.space(SPACE), columns(), RMSPROP, tmp_path)


def test_a_training_by_rmsprop_learns(tmp_path):
    phase = Phase("full", 12, 0.01, LARGEST, ("largest",), warmup_epochs=1)
    summary = train(spaces.space(SPACE), columns(), Recipe("x", (phase,), batch_size=16, optimizer="rmsprop", crop_padding=0, flip=False), tmp_path)
    assert summary.history[0]["validation_top1"]["largest"] > 0.6
    assert load_supernet(summary.weights).space.name == spaces.space(SPACE).name
