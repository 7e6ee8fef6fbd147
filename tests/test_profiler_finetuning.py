# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from profiler.exporting import cut
from profiler.files import sha256_of
from profiler.finetuning import finetune_from_files, tuning_recipe
from profiler.shipped import shipped_weights
from profiler.subnet import read_subnet
from supernets import spaces
from supernets.networks import functional
from supernets.networks.branched import BranchedSupernet
from supernets.networks.checkpoint import load_supernet, save_supernet, supernet_metadata
from supernets.networks.supernet import Supernet
from supernets.training.data_files import write_npz
from supernets.training.machine import Machine
from supernets.training.run import Run
from supernets.training.state import TrainingError
from tests.test_supernets_training_loop import columns

pytestmark = pytest.mark.torch

SPACE = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    data = columns()
    path = tmp_path_factory.mktemp("images") / "columns.npz"
    parts = {f"{part}_{kind}": getattr(data, f"{part}_{kind}") for part in ("train", "validation", "test") for kind in ("images", "labels")}
    write_npz(path, parts, data.class_names)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A random architecture, and a supernet of random weights whose kernel matrices are not the identity."""
    folder, space = tmp_path_factory.mktemp("files"), spaces.space(SPACE)
    supernet = Supernet(space, seed=3)
    with torch.no_grad():
        for name, tensor in supernet.tensors().items():
            if name.endswith("_matrix"):
                tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    save_supernet(folder / "supernet.safetensors", supernet)
    architecture = space.sample(np.random.default_rng(1))
    (folder / "subnet.json").write_text(json.dumps(architecture.to_dict()))
    return folder / "subnet.json", folder / "supernet.safetensors"


@pytest.fixture(scope="module")
def tuned(files, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return finetune_from_files(*files, images, folder, 12, learning_rate=0.05, batch_size=16), folder


def test_a_tuned_network_is_better_and_its_files_say_so(files, tuned):
    result, folder = tuned
    assert result.accuracy_after > max(0.6, result.accuracy_before)
    record = read_subnet(folder / "subnet.json")
    assert record.architecture == read_subnet(files[0]).architecture
    assert (record.measured_accuracy, record.measured_accuracy_images) == (result.accuracy_after, 24)
    assert record.weights_sha256 == sha256_of(result.weights)
    assert "tuned" in result.sentence() and json.loads(json.dumps(result.to_dict()))["test_images"] == 24


def test_the_weights_are_the_networks_alone_and_can_be_cut_out(tuned, images):
    result, folder = tuned
    record, supernet = read_subnet(folder / "subnet.json"), load_supernet(result.weights)
    assert supernet.space.size() == 1 and not any(name.endswith("_matrix") for name in supernet.tensors())
    subnet = cut(record, supernet, columns(), 64)
    assert subnet.logits(torch.zeros((2, 1, *[record.architecture["resolution"]] * 2))).shape == (2, 3)


def test_tuning_begins_from_the_supernets_weights_matrices_baked_in(files):
    space, supernet = spaces.space(SPACE), load_supernet(files[1])
    architecture = read_subnet(files[0]).architecture
    child = {name: tensor.detach() for name, tensor in supernet.child(architecture).items()}
    run = Run(space.only(architecture), columns(), tuning_recipe(1, batch_size=16), 0, start=child)
    assert set(run.supernet.tensors()) == set(child)
    assert all(torch.equal(tensor.detach(), child[name]) for name, tensor in run.supernet.tensors().items())


def test_the_same_call_again_does_nothing_and_other_weights_are_refused(files, images, tuned, tmp_path):
    result, folder = tuned
    again = finetune_from_files(*files, images, folder, 12, learning_rate=0.05, batch_size=16)
    assert again.trained_steps == 0 and again.accuracy_after == result.accuracy_after
    save_supernet(tmp_path / "other.safetensors", Supernet(spaces.space(SPACE), seed=9))
    with pytest.raises(TrainingError, match="is of a training with start_sha256"):
        finetune_from_files(files[0], tmp_path / "other.safetensors", images, folder, 12, learning_rate=0.05, batch_size=16)


def test_a_tuned_network_can_be_tuned_on(tuned, images, tmp_path):
    result, folder = tuned
    more = finetune_from_files(folder / "subnet.json", result.weights, images, tmp_path, 1, learning_rate=0.001, batch_size=16)
    assert more.accuracy_before == result.accuracy_after
    assert supernet_metadata(more.weights)["provenance"]["tuned_from"]["sha256"] == sha256_of(result.weights)


def test_weights_of_another_space_are_refused(files, images, tmp_path):
    shipped, _ = shipped_weights("ofa-mobilenetv3-tiny")
    with pytest.raises(ValueError, match="the weights are of space 'ofa-mobilenetv3-tiny', the subnet of 'ofa-mobilenetv3-tiny:resol"):
        finetune_from_files(files[0], shipped, images, tmp_path, 1)


def test_a_network_with_branches_is_tuned_with_them(images, tmp_path):
    space = spaces.space("repnas-tiny:skeleton=s,resolutions=12,classes=3")
    save_supernet(tmp_path / "supernet.safetensors", BranchedSupernet(space), {"own_branch_weights": False})
    architecture = space.sample(np.random.default_rng(0))
    (tmp_path / "subnet.json").write_text(json.dumps(architecture.to_dict()))
    result = finetune_from_files(tmp_path / "subnet.json", tmp_path / "supernet.safetensors", images, tmp_path / "tuned", 4, batch_size=16)
    assert read_subnet(result.subnet).architecture == architecture
    assert result.accuracy_after >= result.accuracy_before


def test_scaled_weights_step_as_the_unscaled_ones_would(monkeypatch):
    """Weights before norms times a tenth, norms of a hundredth of the epsilon: the same network, so the same training."""
    whole = spaces.space("ofa-proxyless-tiny:resolutions=8,classes=3")
    space, recipe = whole.only(whole.smallest()), tuning_recipe(2, 0.01, 16)
    plain = Supernet(space, False, seed=1).tensors()
    normed = {name for name in plain if f"{name.removesuffix('.weight')}.bn.weight" in plain}
    scaled = {name: tensor.detach().double() * (0.1 if name in normed else 1) for name, tensor in plain.items()}

    def losses(start, scale, epsilon):
        monkeypatch.setattr(functional, "BN_EPS", epsilon)
        run = Run(space, columns(), recipe, 0, Machine(dtype=torch.float64), start, scale)
        return [run.advance() for _ in range(6)]

    wanted = losses(plain, 1.0, 1e-3)
    assert losses(scaled, 0.1, 1e-5) == pytest.approx(wanted, rel=1e-6)
    assert losses(scaled, 1.0, 1e-5) != pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": 1}])
def test_figures_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        tuning_recipe(**{"epochs": 1, **changes})
