# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets.training.images import augmented, input_batches, network_input

pytestmark = pytest.mark.torch


def pictures(count=5, side=12, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_pixels_are_scaled_and_laid_out_channels_last():
    x = network_input(np.array([0, 255], dtype=np.uint8).reshape(1, 1, 2, 1).repeat(2, axis=1), 2)
    assert x.shape == (1, 1, 2, 2) and x.dtype == torch.float32
    assert x[0, 0].tolist() == [[-2.0, 2.0], [-2.0, 2.0]]
    assert network_input(pictures(), 8).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [8, 12, 20])
def test_resizing_gives_the_side_and_keeps_the_mean(side):
    images = pictures()
    x = network_input(images, side)
    assert x.shape == (5, 3, side, side)
    torch.testing.assert_close(x.mean((2, 3)), network_input(images, 12).mean((2, 3)), atol=0.12, rtol=0)


def test_an_image_of_the_wanted_side_is_not_resampled():
    images = pictures(channels=1)
    expected = (torch.from_numpy(images[..., 0]).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(network_input(images, 12)[:, 0], expected)


def test_an_image_is_the_same_alone_and_in_a_batch():
    images = pictures()
    assert torch.equal(network_input(images, 8)[2:3], network_input(images[2:3], 8))


def test_batches_hold_all_images_in_order():
    images = pictures(7)
    batches = list(input_batches(images, 8, 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), network_input(images, 8))


def test_augmentation_depends_on_the_generator_alone_and_leaves_its_input():
    images = pictures()
    before = images.copy()
    first, again = (augmented(images, np.random.default_rng(1), 2, True) for _ in range(2))
    assert np.array_equal(first, again) and not np.array_equal(first, images) and np.array_equal(images, before)
    assert first.shape == images.shape and first.dtype == np.uint8


def test_without_padding_and_flip_nothing_changes():
    assert np.array_equal(augmented(pictures(), np.random.default_rng(0), 0, False), pictures())


def test_flip_mirrors_about_half_of_the_images():
    images = pictures(400, side=4)
    out = augmented(images, np.random.default_rng(0), 0, True)
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert ((out == images).all((1, 2, 3)) | mirrored).all() and 150 < mirrored.sum() < 250


def test_crops_are_shifts_by_at_most_the_padding_with_black_coming_in():
    images = pictures(300, side=6, channels=1)
    out = augmented(images, np.random.default_rng(0), 2, False)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = {(int(t), int(left)) for image, pad in zip(out, padded, strict=True) for t in range(5) for left in range(5)
             if np.array_equal(image, pad[t : t + 6, left : left + 6])}  # fmt: skip
    assert found == {(t, left) for t in range(5) for left in range(5)}
