# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import safetensors.torch

from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, load_supernet, save_supernet, supernet_metadata, write_tensors
from supernets.networks.supernet import Supernet

pytestmark = pytest.mark.torch

SPACE = "ofa-mobilenetv3-tiny:resolutions=20,classes=4"


@pytest.fixture(scope="module")
def supernet():
    return Supernet(spaces.space(SPACE), seed=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "supernet.safetensors"


def rewritten(path, change, **metadata):
    """Write the file again with its tensors changed."""
    tensors = change(safetensors.torch.load_file(path))
    write_tensors(path, tensors, {**supernet_metadata(path), **metadata})


def test_a_supernet_comes_back_with_its_space_tensors_and_metadata(supernet, path):
    save_supernet(path, supernet, {"seed": 3, "recipe": {"name": "small"}})
    loaded = load_supernet(path)
    assert loaded.space.name == SPACE and loaded.kernel_transform
    assert all(torch.equal(tensor, supernet.tensors()[name]) for name, tensor in loaded.tensors().items())
    metadata = supernet_metadata(path)
    assert (metadata["seed"], metadata["recipe"], metadata["space"]) == (3, {"name": "small"}, SPACE)


def test_a_supernet_without_kernel_matrices_comes_back_without_them(path):
    save_supernet(path, Supernet(spaces.space(SPACE), kernel_transform=False))
    assert not any(name.endswith("_matrix") for name in load_supernet(path).tensors())


def test_saving_leaves_no_other_file_and_replaces_the_one_before(supernet, path):
    path.write_bytes(b"something else")
    save_supernet(path, supernet)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    load_supernet(path)


def test_metadata_cannot_replace_what_the_supernet_says_of_itself(supernet, path):
    with pytest.raises(ValueError, match="'space'"):
        save_supernet(path, supernet, {"space": "another"})
    assert not path.exists()


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: {name: x for name, x in t.items() if name != "stem.conv.weight"}, r"lacks the tensor 'stem\.conv\.weight' \(1 missing, 0 too many\)"),
    (lambda t: {**t, "stage9.conv.weight": torch.zeros(2)}, r"holds the tensor 'stage9\.conv\.weight'"),
    (lambda t: {**t, "classifier.conv.bias": torch.zeros(5)}, r"'classifier\.conv\.bias'.*float32 of shape \(5,\); expected float32 of shape \(4,\)"),
    (lambda t: {**t, "classifier.conv.bias": torch.zeros(4, dtype=torch.float64)}, r"'classifier\.conv\.bias'.*float64"),
    (lambda t: {**t, "classifier.conv.bias": torch.tensor([0, 1, torch.nan, 0])}, r"'classifier\.conv\.bias'.*holds infinity or NaN"),
    (lambda t: {**t, "stem.conv.weight": t["stem.conv.weight"] / 0}, r"'stem\.conv\.weight'.*holds infinity or NaN"),
])  # fmt: skip
def test_wrong_tensors_are_refused_by_name(supernet, path, change, message):
    save_supernet(path, supernet)
    rewritten(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_supernet(path)


@pytest.mark.parametrize("content", [b"", b"not tensors at all", json.dumps({"kind": "elastic-latency supernet"}).encode()])
def test_files_that_are_no_safetensors_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_supernet(path)


def test_files_of_another_kind_are_refused(path):
    write_tensors(path, {"x": torch.zeros(1)}, {"kind": "elastic-latency training"})
    with pytest.raises(CheckpointError, match="'elastic-latency training'; expected 'elastic-latency supernet'"):
        load_supernet(path)
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="kind None"):
        supernet_metadata(path)


@pytest.mark.parametrize("damage", [
    {"space": 5}, {"space": f"{SPACE},classes=1"}, {"kernel_transform": "yes"}, {"weight_scale": "abc"}, {"weight_scale": 0}, {"weight_scale": -1.0},
    {"weight_scale": 1e-200}, {"weight_scale": True}, {"weight_scale": None}, {"own_branch_weights": 5}, {"own_branch_weights": "yes"},
])  # fmt: skip
def test_damaged_metadata_is_refused(supernet, path, damage):
    save_supernet(path, supernet)
    rewritten(path, dict, **damage)
    with pytest.raises(CheckpointError, match=next(iter(damage))):
        load_supernet(path)


def test_a_cut_file_is_refused(supernet, path):
    save_supernet(path, supernet)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_supernet(path)


def test_a_space_this_installation_does_not_know_is_named(supernet, path):
    save_supernet(path, supernet)
    rewritten(path, dict, space="nowhere")
    with pytest.raises(spaces.UnknownSpaceError, match="nowhere"):
        load_supernet(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        load_supernet(tmp_path / "nothing-here.safetensors")


def test_a_file_with_any_byte_damaged_is_refused_by_its_name_or_read_as_finite_numbers(supernet, path):
    save_supernet(path, supernet)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    for trial in range(60):
        damaged = bytearray(content)
        for place in rng.integers(header if trial % 3 else len(content), size=1 + trial % 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged if trial % 5 else damaged[: rng.integers(len(content))])
        try:
            loaded = load_supernet(path)
        except (CheckpointError, spaces.UnknownSpaceError) as error:
            assert str(path) in str(error)
        else:
            assert all(tensor.isfinite().all() for tensor in loaded.tensors().values())


def test_metadata_that_nests_without_end_is_damage(supernet, path):
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}, {"supernets": "[" * 100_000}))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        supernet_metadata(path)


def test_a_supernet_that_lacks_tensors_of_its_space_is_not_saved_in_its_name(path):
    space = spaces.space("ofa-mobilenetv3-tiny")
    for allowed in ({"kernel_size": [5, 7]}, {"kernel_size": [3]}, {"depth": [2]}, {"stage1.block0.expand_ratio": [3, 4]}):
        with pytest.raises(ValueError, match="cannot be saved"):
            save_supernet(path, Supernet(space.restrict(allowed)))
    assert not path.exists()
    save_supernet(path, Supernet(space.restrict({"resolution": [20], "depth": [2, 4], "kernel_size": [3, 7]})))
    assert load_supernet(path).space == space
