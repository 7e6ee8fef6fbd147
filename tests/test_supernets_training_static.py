# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from supernets import spaces
from supernets.networks.checkpoint import KIND, CheckpointError, load_supernet, read_tensors, save_supernet, supernet_metadata, write_tensors
from supernets.networks.initial import fresh_tensors
from supernets.networks.supernet import Supernet
from supernets.space import ArchitectureError
from supernets.training.data import ImageData
from supernets.training.state import TrainingError
from supernets.training.static import FULL, PROXIES, of_network, small_proxy, train_network
from supernets.training.validation import accuracy

pytestmark = pytest.mark.torch

TINY = spaces.space("mnasnet-tiny")
EPOCHS = 4.0  # of two steps


def grey_images() -> ImageData:
    """Return images that are easy to tell apart: the higher the class, the brighter."""
    rng, parts = np.random.default_rng(0), {}
    for part, count in (("train", 128), ("validation", 40), ("test", 20)):
        labels = np.arange(count) % 10
        pixels = (rng.integers(0, 20, (count, 28, 28, 1)) + 25 * labels[:, None, None, None]).astype(np.uint8)
        parts |= {f"{part}_labels": labels, f"{part}_images": pixels}
    return ImageData("greys", tuple("abcdefghij"), **parts)


IMAGES = grey_images()
A, B = TINY.decode(TINY.sample_different(2, np.random.default_rng(3)))


def trained(folder, architecture=A, seed=0, **others):
    return train_network(TINY, architecture, IMAGES, small_proxy(EPOCHS), folder, seed, **others)


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained"))


def test_a_network_alone_has_its_own_tensors_and_no_others(summary):
    supernet = load_supernet(summary.weights)
    assert {name: t.shape for name, t in supernet.tensors().items()} == {name: t.shape for name, t in fresh_tensors(TINY.blocks(A)).items()}
    assert supernet.space.largest() == supernet.space.smallest() == A and supernet.space.size() == 1
    assert supernet_metadata(summary.weights)["network"] == A.to_dict()


def test_it_learns(summary):
    (phase,) = summary.history
    assert summary.steps == 8 and phase["mean_loss"] < 2.4
    supernet = load_supernet(summary.weights)
    found = accuracy(supernet.space, supernet.tensors(), A, IMAGES.validation_images, IMAGES.validation_labels, IMAGES.train_images)
    assert found == phase["validation_top1"]["largest"] > 0.3


def test_equal_seeds_give_equal_networks_and_others_others(summary, tmp_path):
    again, other = (load_supernet(trained(tmp_path / str(seed), seed=seed).weights).tensors() for seed in (0, 1))
    first = load_supernet(summary.weights).tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_stopped_it_goes_on_to_the_same_network(summary, tmp_path):
    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, progress=stop, checkpoint_steps=2)
    resumed = trained(tmp_path)
    assert resumed.trained_steps == 4
    tensors = load_supernet(resumed.weights).tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_supernet(summary.weights).tensors().items())


def test_a_folder_of_another_network_is_refused(tmp_path):
    trained(tmp_path)
    assert trained(tmp_path).already_finished
    with pytest.raises(TrainingError, match=r"recipe\.phases\[0\]\.restriction"):
        trained(tmp_path, B)


def test_an_architecture_of_another_space_is_refused(tmp_path):
    with pytest.raises(ArchitectureError, match="own space"):
        trained(tmp_path, spaces.space("bignas-tiny").smallest())


@pytest.mark.parametrize("name", [name for name in spaces.SPACES if name.endswith("tiny") and name != "repnas-tiny"])  # branches: another supernet
def test_a_network_of_every_space_is_kept_in_a_file_of_its_own(name, tmp_path):
    space = spaces.space(name)
    (architecture,) = space.decode(space.sample_population(1, np.random.default_rng(0)))
    supernet = Supernet(space.only(architecture), kernel_transform=False, seed=7)
    save_supernet(tmp_path / "network.safetensors", supernet)
    loaded = load_supernet(tmp_path / "network.safetensors")
    if space.size() > 1:
        assert loaded.space == space.only(architecture) != space
    assert all(torch.equal(tensor, loaded.tensors()[tensor_name]) for tensor_name, tensor in supernet.tensors().items())


def test_a_file_of_a_network_that_its_space_does_not_have_is_refused_by_name(summary, tmp_path):
    tensors, metadata = read_tensors(summary.weights, KIND)
    for network, said in (
        ({"space": TINY.name, "values": {**A.values, "stage1.kernel_size": 9}}, "stage1.kernel_size"),
        ({"space": "another", "values": {}}, "another"),
        ("none", "str"),
    ):
        write_tensors(tmp_path / "strange.safetensors", tensors, {**metadata, "network": network})
        with pytest.raises(CheckpointError, match=f"{re.escape(str(tmp_path))}.*{re.escape(said)}"):
            load_supernet(tmp_path / "strange.safetensors")


def test_recipes_of_networks_train_one_network_in_one_phase_without_a_teacher():
    for name, make in {**FULL, **PROXIES}.items():
        recipe = make()
        (phase,) = recipe.phases
        assert recipe.name == name and (phase.children, phase.teacher) == (("largest",), "none")
        assert of_network(recipe, A).phases[0].space(TINY).size() == 1
