# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import gzip
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets.training import fashion_mnist
from supernets.training.data import ImageData, drawn, open_images
from supernets.training.data_files import read_idx, write_npz

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def subset():
    return open_images()


def arrays(train=20, test=10, side=8, channels=1):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, side, side, channels), dtype=np.uint8), "train_labels": np.arange(train) % 2,
        "test_images": rng.integers(0, 256, (test, side, side, channels), dtype=np.uint8), "test_labels": np.arange(test) % 2,
    }  # fmt: skip


def image_folder(folder, parts=("train", "val"), classes=("cat", "dog"), size=(8, 8), mode="RGB", count=6):
    image = pytest.importorskip("PIL.Image")
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                image.new(mode, size, 40 * c + i + 100 * p if mode == "L" else (40 * c, i, 100 * p)).save(folder / part / name / f"{i}.png")
    return folder


# --- what comes with the package --------------------------------------------------------------------------------------


def test_the_subset_comes_with_the_package_and_is_balanced(subset):
    assert (subset.classes, subset.side, subset.channels) == (10, 28, 1)
    labels = np.concatenate([subset.train_labels, subset.validation_labels])
    assert np.bincount(labels).tolist() == [1000] * 10 and np.bincount(subset.test_labels).tolist() == [200] * 10
    assert len(subset.validation_labels) == 1000 and subset.class_names[-1] == "Ankle boot"


def test_fingerprint_changes_with_any_image_label_or_split(subset):
    small = ImageData("small", subset.class_names, *([subset.train_images[:20], subset.train_labels[:20]] * 3))
    moved = small.train_labels.copy()
    moved[0] = (moved[0] + 1) % 10
    assert small.fingerprint == replace(small).fingerprint
    assert len({small.fingerprint, replace(small, test_labels=moved).fingerprint, replace(small, train_labels=moved).fingerprint}) == 3
    assert subset.fingerprint != open_images(seed=1).fingerprint  # other images held out


@pytest.mark.skipif(not fashion_mnist.FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_subset_is_part_of_the_whole(subset):
    whole = open_images("fashion-mnist")
    assert (len(whole.train_images), len(whole.validation_images), len(whole.test_images)) == (54_000, 6_000, 10_000)
    known = {image.tobytes() for image in whole.test_images}
    assert all(image.tobytes() in known for image in subset.test_images)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_validation_images_are_held_out_of_training_by_the_seed(tmp_path):
    path = tmp_path / "images.npz"
    write_npz(path, arrays(), ("even", "odd"))
    data, again, other = open_images(str(path), validation_images=5), open_images(str(path), validation_images=5), open_images(str(path), seed=1)
    assert (len(data.train_images), len(data.validation_images)) == (15, 5) and len(other.validation_images) == 2
    assert data.fingerprint == again.fingerprint
    together = sorted(image.tobytes() for part in (data.train_images, data.validation_images) for image in part)
    assert together == sorted(image.tobytes() for image in arrays()["train_images"])


def test_validation_images_of_the_file_itself_are_kept(tmp_path):
    path = tmp_path / "images.npz"
    write_npz(path, {**arrays(), "validation_images": arrays()["test_images"][:3], "validation_labels": np.array([0, 1, 0])})
    assert len(open_images(str(path)).validation_images) == 3 and len(open_images(str(path)).train_images) == 20


@pytest.mark.parametrize("count", [0, 20, 21])
def test_holding_out_none_or_all_is_refused(tmp_path, count):
    write_npz(tmp_path / "images.npz", arrays())
    with pytest.raises(ValueError, match=f"{count} validation images cannot be held out of the 20"):
        open_images(str(tmp_path / "images.npz"), validation_images=count)


def test_calibration_images_are_training_images_drawn_by_the_seed(subset):
    assert np.array_equal(subset.calibration_images(16), subset.calibration_images(16))
    assert not np.array_equal(subset.calibration_images(16), subset.calibration_images(16, seed=1))
    assert len(subset.calibration_images(10**6)) == 9000
    assert len(set(drawn(50, 20, seed=3).tolist())) == 20


# --- idx files --------------------------------------------------------------------------------------------------------


def idx_bytes(array):
    return b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def test_idx_files_are_read_plain_and_compressed(tmp_path):
    images, labels = np.arange(12 * 9, dtype=np.uint8).reshape(12, 3, 3), np.arange(12, dtype=np.uint8) % 3
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images[:4]))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels[:4])))
    data = open_images(str(tmp_path), validation_images=1)
    assert data.classes == 3 and len(data.train_images) == 11
    assert np.array_equal(data.test_images[..., 0], images[:4]) and data.test_labels.dtype == np.int64
    assert data.train_images.flags.writeable and data.test_images.flags.writeable, "PyTorch warns of pixels that it could write into and must not"


@pytest.mark.parametrize(("content", "message"), [
    (b"", "begins with nothing"),
    (b"\x89PNG....", "begins with 89504e47"),
    (idx_bytes(np.zeros((4, 2), np.uint8))[:-1], "holds 7 bytes; its header says 8"),
])  # fmt: skip
def test_damaged_idx_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


def test_damaged_gzip_is_refused(tmp_path):
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(999, np.uint8)))[:-12])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        read_idx(tmp_path / "file.gz")


def test_a_missing_idx_file_is_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((2, 3, 3), np.uint8)))
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        open_images(str(tmp_path))


# --- npz files --------------------------------------------------------------------------------------------------------


def test_npz_files_never_run_code(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, **{**arrays(), "train_labels": np.array([{"a": 1}] * 20, dtype=object)})
    with pytest.raises(ValueError, match="cannot be read as npz"):
        open_images(str(path))


@pytest.mark.parametrize(("change", "message"), [
    ({"test_labels": None}, "holds the arrays"),
    ({"extra": np.zeros(1)}, "holds the arrays"),
    ({"test_labels": np.arange(9) % 2}, r"test labels.*shape \(9,\); expected one for each of 10"),
    ({"test_labels": np.full(10, 2)}, "run from 2 to 2; expected 0 to 1"),
    ({"test_images": np.zeros((10, 8, 8, 2), np.uint8)}, "expected uint8"),
    ({"test_images": np.zeros((10, 8, 8, 1), np.float32)}, "float32"),
    ({"test_images": np.zeros((10, 9, 9, 1), np.uint8)}, r"shape \(9, 9, 1\); expected \(8, 8, 1\)"),
    ({"test_images": np.zeros((0, 8, 8, 1), np.uint8), "test_labels": np.zeros(0, np.int64)}, "no test images"),
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, message):
    given = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "images.npz", **given)
    with pytest.raises(ValueError, match=message):
        open_images(str(tmp_path / "images.npz"))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "images.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"cannot be read as npz \(it is no archive, or is cut off\)"):
        open_images(str(tmp_path / "images.npz"))


def test_nothing_at_the_path_names_what_is_known():
    with pytest.raises(FileNotFoundError, match="fashion-mnist-subset, fashion-mnist, an npz file, or a folder"):
        open_images("nowhere/at-all")


# --- folders of images ------------------------------------------------------------------------------------------------


def test_image_folder_in_imagenet_layout(tmp_path):
    data = open_images(str(image_folder(tmp_path)), validation_images=3)
    assert data.class_names == ("cat", "dog") and data.channels == 3 and data.side == 8
    assert (len(data.train_images), len(data.validation_images), len(data.test_images)) == (9, 3, 12)
    assert data.test_images[7].reshape(-1, 3)[0].tolist() == [40, 1, 100] and data.test_labels[7] == 1


def test_grey_images_stay_grey_and_can_be_made_colour(tmp_path):
    folder = str(image_folder(tmp_path, parts=("train", "test"), mode="L"))
    assert open_images(folder).channels == 1
    assert open_images(folder, channels=3).channels == 3


def test_val_beside_test_is_the_validation_set(tmp_path):
    data = open_images(str(image_folder(tmp_path, parts=("train", "test", "val"))))
    assert len(data.train_images) == 12 and (data.validation_images[0, 0, 0, 2], data.test_images[0, 0, 0, 2]) == (200, 100)


def test_images_of_other_shapes_need_a_side(tmp_path):
    folder = str(image_folder(tmp_path, size=(12, 9)))
    with pytest.raises(ValueError, match="12x9 pixels"):
        open_images(folder)
    assert open_images(folder, side=6).train_images.shape[1:] == (6, 6, 3)


def test_decoded_images_are_kept_in_the_cache(tmp_path):
    folder, cache = image_folder(tmp_path / "images"), tmp_path / "cache"
    first = open_images(str(folder), cache=cache)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    assert open_images(str(folder), cache=cache).fingerprint == first.fingerprint


def test_a_broken_image_is_named(tmp_path):
    folder = image_folder(tmp_path)
    (folder / "val" / "dog" / "3.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match=r"dog/3\.png"):
        open_images(str(folder))


def test_folders_without_classes_images_or_equal_classes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no class folders"):
        open_images(str(tmp_path))
    folder = image_folder(tmp_path / "a")
    (folder / "val" / "fox").mkdir()
    with pytest.raises(ValueError, match="cat, dog, fox; expected those of train/, cat, dog"):
        open_images(str(folder))
    (folder / "train" / "fox").mkdir()
    with pytest.raises(FileNotFoundError, match=r"fox' has no images"):
        open_images(str(folder))


# --- Fashion-MNIST on request -----------------------------------------------------------------------------------------


def test_download_keeps_only_files_of_the_right_content(tmp_path, monkeypatch):
    shapes = {name: (3, 4, 4) if "images" in name else (3,) for name in fashion_mnist.SHA256_UNPACKED}
    contents = {name: idx_bytes(np.ones(shape, np.uint8)) for name, shape in shapes.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256_UNPACKED", {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})
    asked = []

    def read(url):
        asked.append(url)
        return gzip.compress(contents[url.rpartition("/")[2].removesuffix(".gz")])

    fashion_mnist.download(tmp_path, read)
    fashion_mnist.download(tmp_path, read)
    assert len(asked) == 4 and all(url.startswith("https://") for url in asked)
    assert len(open_images(str(tmp_path), validation_images=1).test_images) == 3
    with pytest.raises(ValueError, match="SHA-256 .* so it is not used"):
        fashion_mnist.download(tmp_path / "other", lambda url: gzip.compress(b"something else"))
    assert not list((tmp_path / "other").iterdir())


def test_missing_fashion_mnist_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FOLDER", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        open_images("fashion-mnist")


def small_npz(path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_{kind}": rng.integers(256, size=(6, 4, 4, 1), dtype=np.uint8) if kind == "images" else np.arange(6) % 3
        for part in ("train", "validation", "test") for kind in ("images", "labels")
    }  # fmt: skip
    write_npz(path, arrays, ("a", "b", "c"))
    return arrays


def test_npz_files_with_damaged_bytes_are_refused_by_name_or_read(tmp_path):
    path = tmp_path / "images.npz"
    small_npz(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for trial in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged if trial % 4 else damaged[: rng.integers(len(content))])
        try:
            data = open_images(str(path))
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert data.classes == 3


@pytest.mark.parametrize("change", [
    {"train_labels": np.array(["a"] * 6)}, {"train_labels": np.linspace(0, 1, 6)}, {"test_labels": np.zeros((6, 1), int)},
    {"train_images": np.zeros((6, 4, 4), np.uint8)}, {"test_images": np.float32(0)}, {"class_names": np.array("abc")},
    {"train_images": np.array([print] * 6, dtype=object)}, {"train_labels": np.array([0, 1, 2, 0, 1, 10**12]), "class_names": None},
    {"train_labels": np.array([0, 1, 2, 0, 1, -(10**12)])},
])  # fmt: skip
def test_npz_arrays_of_the_wrong_kind_are_refused_by_the_files_name(tmp_path, change):
    path = tmp_path / "images.npz"
    arrays = {**small_npz(path), "class_names": np.array(["a", "b", "c"]), **change}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_images(str(path))


@pytest.mark.parametrize("content", [b"\x00\x00\x08\xff\x00", b"\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_idx_headers_that_promise_what_is_not_there_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "file"))):
        read_idx(tmp_path / "file")


def test_damaged_gzip_data_is_refused_by_the_files_name(tmp_path):
    path = tmp_path / "file.gz"
    content = gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            assert read_idx(path).tolist() == list(range(200))
        except ValueError as error:
            assert str(path) in str(error)
