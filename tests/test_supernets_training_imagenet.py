# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""The recipes for ImageNet, each on its real space at its real sides, on a few images of four classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL.Image")

from supernets import spaces
from supernets.training import static
from supernets.training.data import open_images
from supernets.training.loop import train
from supernets.training.phases import Recipe
from supernets.training.recipes import RECIPES, recipe
from supernets.training.run import Run
from supernets.training.static import of_network
from tests.test_supernets_training_image_cache import photographs

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(900)]

BATCH = 8
SUPERNETS = {
    "imagenet": "ofa-mobilenetv3-w1.2", "imagenet-resnet": "ofa-resnet50", "bignas": "bignas", "bignas-paper": "bignas",
    "repnas-paper": "repnas", "repnas-release": "repnas",
}  # fmt: skip
NETWORKS = {"network": static.imagenet, "network-proxy": static.imagenet_proxy}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    photographs(folder / "images", each=8, classes=4)
    return open_images(f"{folder / 'images'}:side=224,cache={folder / 'decoded'}")


def test_every_recipe_for_imagenet_is_tried_here():
    assert set(SUPERNETS) == {name for name in RECIPES if recipe(name).crop_scale is not None}
    assert set(NETWORKS) == {name for name, make in {**static.FULL, **static.PROXIES}.items() if make().crop_scale is not None}


def tried(space, own: Recipe, images) -> None:
    """Make a step of each phase, at the rate after the warm-up for so small a batch; the loss is a number, and every step changes weights."""
    phases = tuple(
        replace(phase, epochs=1e-6, warmup_epochs=0.0, part_of=None, learning_rate=phase.learning_rate * BATCH / own.batch_size)
        for phase in own.phases
    )
    run = Run(space, images, replace(own, phases=phases, batch_size=BATCH, validation="phase"), 0)
    for phase in phases:
        before = {name: tensor.detach().clone() for name, tensor in run.supernet.tensors().items()}
        loss = run.advance()
        assert 0 < loss < 50, phase.name
        after = run.supernet.tensors()
        assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values()), phase.name
        assert sum(not torch.equal(after[name], tensor) for name, tensor in before.items()) > 20, phase.name
    assert run.step == run.steps == len(phases)


@pytest.mark.parametrize("name", SUPERNETS)
def test_a_recipe_for_imagenet_trains_its_space(name, images, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("supernets.training.run.accuracy", lambda *_: 0.0)
    tried(spaces.space(f"{SUPERNETS[name]}:classes=4"), recipe(name), images)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_trained_alone_at_224_pixels(name, images, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("supernets.training.run.accuracy", lambda *_: 0.0)
    space = spaces.space("mnasnet:classes=4")
    architecture = space.smallest()
    assert space.blocks(architecture)[0].input_side == 224
    tried(space.only(architecture), of_network(NETWORKS[name](), architecture), images)


def test_a_whole_training_on_decoded_images_validates_and_writes_its_weights(images, tmp_path):
    torch.set_num_threads(1)
    own = recipe("bignas-paper")
    short = replace(own, phases=tuple(replace(phase, epochs=1, warmup_epochs=0.0) for phase in own.phases), batch_size=BATCH)
    summary = train(spaces.space("bignas:classes=4,resolutions=192"), images, short, tmp_path)
    assert summary.steps == 3 and summary.history[0]["validation_top1"].keys() == {"largest", "smallest"}
