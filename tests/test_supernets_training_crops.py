# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Random resized crops and colour jitter, against the same done with Pillow one image at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.training.crops import Crops, cropped, drawn_crops
from supernets.training.distributed import Group
from supernets.training.images import network_input
from supernets.training.machine import Machine
from supernets.training.run import Run
from tests.test_supernets_training_loop import RECIPE, columns

pytestmark = pytest.mark.torch


def pictures(count=6, side=32, channels=3, seed=0):
    """Smooth pictures: two ways of resizing differ little on them."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(side)[:, None, None], np.arange(side)[None, :, None]
    waves = [np.sin(2 * np.pi * (rng.uniform(0.5, 2) * x + rng.uniform(0.5, 2) * y + rng.uniform(0, side, channels)) / side) for _ in range(count)]
    return (127.5 + 120 * np.stack(waves)).astype(np.uint8)


def crops_of(count, **values):
    plain = {"left": 0.0, "top": 0.0, "width": 32.0, "height": 32.0, "mirrored": False, "brightness": 1.0, "saturation": 1.0}
    return Crops(**{name: np.full(count, value) for name, value in {**plain, **values}.items()})


def test_a_crop_of_the_whole_changes_nothing_and_mirrored_it_is_mirrored():
    images = torch.from_numpy(pictures())
    assert torch.equal(cropped(images, crops_of(6)), images)
    assert torch.equal(cropped(images, crops_of(6, mirrored=True)), images.flip(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_and_colours_are_those_that_pillow_makes(channels):
    image = pytest.importorskip("PIL.Image")
    enhance = pytest.importorskip("PIL.ImageEnhance")
    images = pictures(40, channels=channels)
    crops = drawn_crops(40, 32, np.random.default_rng(3), 0.08, True, 32 / 255, 0.5)
    got = cropped(torch.from_numpy(images), crops).numpy().astype(int)
    for i, pixels in enumerate(images):
        left, top, width, height = (int(values[i]) for values in (crops.left, crops.top, crops.width, crops.height))
        picture = image.fromarray(pixels if channels == 3 else pixels[..., 0]).crop((left, top, left + width, top + height))
        picture = picture.resize((32, 32), image.Resampling.BILINEAR)
        picture = enhance.Color(enhance.Brightness(picture).enhance(crops.brightness[i])).enhance(crops.saturation[i])
        expected = np.asarray(picture, dtype=int).reshape(32, 32, channels)
        expected = expected[:, ::-1] if crops.mirrored[i] else expected
        assert np.abs(got[i] - expected).max() <= 3, i  # Pillow rounds between the steps


def test_crops_lie_inside_and_have_the_shares_and_ratios_asked_for():
    crops = drawn_crops(20_000, 224, np.random.default_rng(0), 0.08, True, 32 / 255, 0.5)
    assert (crops.left >= 0).all() and (crops.left + crops.width <= 224).all() and (crops.top >= 0).all() and (crops.top + crops.height <= 224).all()
    shares, ratios = crops.width * crops.height / 224**2, crops.width / crops.height
    assert 0.078 < shares.min() < 0.085 and shares.max() > 0.95 and 0.45 < shares.mean() < 0.56
    assert 0.73 < ratios.min() < 0.77 and 1.3 < ratios.max() < 1.36 and abs(np.log(ratios).mean()) < 0.01
    assert 0.48 < crops.mirrored.mean() < 0.52
    for factors, by in ((crops.brightness, 32 / 255), (crops.saturation, 0.5)):
        assert 1 - by <= factors.min() < 1 - 0.99 * by and 1 + 0.99 * by < factors.max() <= 1 + by


@pytest.mark.parametrize("flip", [True, False])
def test_without_shares_and_colours_nothing_is_drawn_but_mirrors(flip):
    images, crops = torch.from_numpy(pictures(50)), drawn_crops(50, 32, np.random.default_rng(0), 1.0, flip)
    assert (crops.mirrored.any(), crops.mirrored.all()) == (flip, False)
    mirrored = torch.from_numpy(crops.mirrored)[:, None, None, None]
    assert torch.equal(cropped(images, crops), torch.where(mirrored, images.flip(2), images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [12, 20])
def test_networks_get_crops_as_they_get_whole_images_with_channels_last(channels, side):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 20, 20, channels), dtype=np.uint8))
    crops = cropped(images, drawn_crops(4, 20, np.random.default_rng(1), 0.08, flip=True))
    expected = (side * side * channels, 1, side * channels, channels)  # else grey images run through the network at half the speed
    assert network_input(crops, side).stride() == network_input(images.numpy(), side).stride() == expected


def test_parts_of_a_batch_are_the_rows_of_the_whole():
    images, crops = torch.from_numpy(pictures(12)), drawn_crops(12, 32, np.random.default_rng(1), 0.08, True, 0.1, 0.5)
    whole = cropped(images, crops)
    assert torch.equal(torch.cat([cropped(images[rows], crops, rows) for rows in (slice(0, 4), slice(4, 8), slice(8, 12))]), whole)


def test_a_runs_batches_follow_from_seed_and_step_for_any_number_of_processes():
    recipe = replace(RECIPE, crop_scale=0.3, brightness=0.1, saturation=0.5)
    space, images = spaces.space("ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"), columns()

    def batches(seed=0, group=None, own=recipe):
        run = Run(space, images, own, seed, Machine(group=group or Group()))
        found = []
        for step in range(3):
            run.step = step
            found.append(run._batch(0, step)[0])
        return torch.cat(found)

    whole = batches()
    assert torch.equal(whole, batches()) and not torch.equal(whole, batches(seed=1)) and whole.dtype == torch.uint8
    halves = [batches(group=Group(rank, 2)).split(8) for rank in (0, 1)]
    assert torch.equal(torch.cat([part for pair in zip(*halves, strict=True) for part in pair]), whole)
    assert not torch.equal(whole, batches(own=replace(recipe, crop_scale=None, brightness=0.0, saturation=0.0)))


def test_images_that_are_judged_are_not_augmented(monkeypatch, tmp_path):
    from supernets.training import run as run_module
    from supernets.training.loop import train

    seen = []
    monkeypatch.setattr(run_module, "accuracy", lambda space, tensors, network, shown, labels, calibration: seen.append((shown, calibration)) or 0.5)
    images, space = columns(), spaces.space("ofa-mobilenetv3-tiny:resolutions=8/12,classes=3")
    train(space, images, replace(RECIPE, phases=RECIPE.phases[:1], crop_scale=0.08), tmp_path)
    assert len(seen) == 2 and all(np.array_equal(shown, images.validation_images) for shown, _ in seen)
    assert np.array_equal(seen[0][1], images.calibration_images())
