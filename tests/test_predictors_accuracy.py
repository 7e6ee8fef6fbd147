from __future__ import annotations

import numpy as np
import pytest
from contracts import AccuracyPredictorContract

from predictors import accuracy
from predictors.registry import UnknownPredictorError
from supernets.counts import block_macs
from supernets.places import AdditiveCost
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")
LEARNING = ("sklearn", "scipy", "xgboost")


class TestRidge(AccuracyPredictorContract):
    name = "ridge"
    package = "sklearn"
    settings = {"alphas": (0.1, 1.0)}  # noqa: RUF012
    wrong_settings = {"alphas": ()}  # noqa: RUF012
    loads_without = ("torch", *LEARNING)


@pytest.mark.torch
class TestMlp(AccuracyPredictorContract):
    name = "mlp"
    package = "torch"
    settings = {"hidden": 24, "max_steps": 500, "learning_rate": 3e-3, "batch_size": 60}  # noqa: RUF012
    wrong_settings = {"hidden": 0, "batch_size": 0, "max_steps": 0, "learning_rate": 0.0, "validation_share": 1.0, "weight_decays": (-1.0,)}  # noqa: RUF012
    loads_without = ("torch", *LEARNING)


class TestXgboost(AccuracyPredictorContract):
    name = "xgboost"
    package = "xgboost"
    settings = {"max_trees": 200}  # noqa: RUF012
    wrong_settings = {"max_trees": 0, "max_depth": 0, "threads": 0, "learning_rate": 0.0, "validation_share": 0.0}  # noqa: RUF012
    loads_without = ("torch",)

    def test_loading_without_its_package_names_the_extra(self, fitted, tmp_path, monkeypatch):
        fitted.save(tmp_path)
        monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
        with pytest.raises(ImportError, match=r"loading accuracy predictor 'xgboost' needs the package 'xgboost-cpu'.*elastic-latency\[xgboost\]"):
            accuracy.load(tmp_path)


def test_ridge_finds_effects_that_are_linear_in_its_columns():
    pytest.importorskip("sklearn")
    population = TINY.sample_different(400, np.random.default_rng(0))
    effects = np.random.default_rng(1).normal(0, 0.01, TINY.one_hot(population).shape[1])
    log_macs = np.log(AdditiveCost(TINY, block_macs)(population))
    accuracies = 0.2 + TINY.one_hot(population, np.float64) @ effects + 0.03 * log_macs
    fitted = accuracy.create("ridge", TINY.name, alphas=(1e-6,)).fit(population[:300], accuracies[:300])
    np.testing.assert_allclose(fitted.predict(population[300:]), accuracies[300:], atol=1e-5)


@pytest.mark.torch
def test_mlp_in_numpy_is_the_network_that_torch_trained():
    torch = pytest.importorskip("torch")
    population = TINY.sample_different(60, np.random.default_rng(0))
    fitted = accuracy.create("mlp", TINY.name, hidden=16, max_steps=40).fit(population, np.linspace(0.4, 0.6, 60))
    x = torch.tensor(TINY.one_hot(population))
    for i in range(0, 8, 2):
        x = torch.addmm(torch.tensor(fitted.layers_[i + 1]), x, torch.tensor(fitted.layers_[i]))
        x = torch.relu(x) if i < 6 else x
    np.testing.assert_allclose(fitted.predict(population), x[:, 0].numpy(), atol=1e-6)
    assert [layer.shape for layer in fitted.layers_[::2]] == [(TINY.one_hot(population).shape[1], 16), (16, 16), (16, 16), (16, 1)]


@pytest.mark.torch
def test_training_the_mlp_leaves_torch_as_it_was():
    torch = pytest.importorskip("torch")
    population = TINY.sample_different(20, np.random.default_rng(0))
    torch.manual_seed(3)
    before = torch.get_num_threads(), torch.rand(1).item()
    torch.manual_seed(3)
    accuracy.create("mlp", TINY.name, hidden=8, max_steps=5).fit(population, np.linspace(0.4, 0.6, 20))
    assert (torch.get_num_threads(), torch.rand(1).item()) == before


@pytest.mark.torch
def test_an_mlp_starts_at_the_mean_accuracy():
    pytest.importorskip("torch")
    population = TINY.sample_different(50, np.random.default_rng(0))
    fitted = accuracy.create("mlp", TINY.name, max_steps=1).fit(population, np.full(50, 0.75))
    assert abs(float(fitted.layers_[-1][0]) - 0.75) < 0.01


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UnknownPredictorError, match="unknown accuracy predictor 'forest'; known: mlp, ofa-mlp, ridge, xgboost"):
        accuracy.create("forest", TINY.name)


def test_representation_shows_the_settings():
    assert repr(accuracy.create("ridge", TINY.name, alphas=(1.0,))) == "RidgeAccuracy(space_name='ofa-mobilenetv3-tiny', alphas=(1.0,))"
