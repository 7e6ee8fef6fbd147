"""What a training finds in its folder and did not write so: refused in one sentence that names the file, and left as it was."""

# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from test_supernets_training_loop import RECIPE, Stopped, columns, stop_at

from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, read_tensors, write_tensors
from supernets.networks.gates import BranchBudget
from supernets.training.loop import train
from supernets.training.machine import Machine
from supernets.training.phases import Recipe
from supernets.training.repnas import three_phases
from supernets.training.repnas_sampler import BranchSettings
from supernets.training.state import KIND

pytestmark = pytest.mark.torch
STEPS = 16  # of RECIPE on the images
SPACE = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"
BRANCHED = "repnas-tiny:skeleton=s,resolutions=12,classes=3"
BRANCHES = Recipe("test", three_phases((1, 2, 1), 0.05), batch_size=16, kernel_transform=False, branches=BranchSettings(BranchBudget(limit=9)))


@pytest.fixture(scope="module")
def images():
    return columns()


@pytest.fixture(scope="module")
def kept(images, tmp_path_factory):
    """Tensors and metadata of a checkpoint in the second phase, which has a teacher."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.raises(Stopped):
        train(spaces.space(SPACE), images, RECIPE, folder, progress=stop_at(10), checkpoint_steps=1)
    return read_tensors(folder / "checkpoint.safetensors", KIND)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return read_tensors(train(spaces.space(SPACE), images, RECIPE, folder).weights, "elastic-latency supernet")


def refused(folder, images, tensors, metadata, space=SPACE, recipe=RECIPE):
    """Return why the training does not go on; its checkpoint is as it was."""
    path = folder / "checkpoint.safetensors"
    write_tensors(path, tensors, metadata)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as error:
        train(spaces.space(space), images, recipe, folder)
    assert path.read_bytes() == before
    text = str(error.value)
    assert str(path) in text and text.endswith("remove it to begin anew")
    return text


def running(metadata, **changes):
    return {"history": [*metadata["history"][:-1], {**metadata["history"][-1], **changes}]}


@pytest.mark.parametrize("damage, names", [
    ({"settings": None}, "settings is None"), ({"settings": [1]}, "settings"), ({"step": None}, "step is None"), ({"step": "5"}, "step is '5'"),
    ({"step": True}, "step"), ({"step": -3}, "step is -3"), ({"step": 2.5}, "step is 2.5"), ({"step": 10**9}, f"of step {10**9} of {STEPS}"),
    ({"step": 3}, f"of step 3 of {STEPS}, with 1 phases finished"), ({"history": None}, "history"), ({"history": []}, "history"),
    ({"history": [5]}, "history"), ({"history": [{}, {"loss_sum": 1.0}]}, "history"),
])  # fmt: skip
def test_metadata_that_no_training_wrote_are_refused(kept, images, tmp_path, damage, names):
    tensors, metadata = kept
    assert names in refused(tmp_path, images, tensors, {name: value for name, value in {**metadata, **damage}.items() if value is not None})


@pytest.mark.parametrize("damage", [{"loss_sum": "x"}, {"loss_sum": None}, {"epochs": 5}, {"loss_scale": {"a": 1}}, {"loss_scale": 3}])
def test_a_damaged_sum_of_the_running_phase_is_refused(kept, images, tmp_path, damage):
    tensors, metadata = kept
    assert "history" in refused(tmp_path, images, tensors, {**metadata, **running(metadata, **damage)})


@pytest.mark.parametrize("name, change, names", [
    ("foo/x", lambda tensor: torch.zeros(1), "'foo/x'"), ("step/x", lambda tensor: torch.zeros(1), "'step/x'"),
    ("momentum/classifier.conv.bias", lambda tensor: tensor * torch.nan, "NaN"),
    ("momentum/classifier.conv.bias", lambda tensor: tensor.int(), "'classifier.conv.bias'"),
    ("momentum/other", lambda tensor: torch.zeros(1), "'other'"), ("teacher/classifier.conv.bias", lambda tensor: tensor[1:], "another supernet"),
    ("teacher/classifier.conv.bias", None, "teacher"), ("weights/classifier.conv.bias", None, "lacks the tensor"),
    ("weights/classifier.conv.bias", lambda tensor: tensor / 0, "NaN"), ("averages/classifier.conv.bias", lambda tensor: torch.zeros(3), "averages"),
])  # fmt: skip
def test_tensors_that_no_training_wrote_are_refused(kept, images, tmp_path, name, change, names):
    tensors, metadata = kept
    changed = {other: tensor for other, tensor in tensors.items() if other != name}
    if change is not None:
        changed[name] = change(tensors.get(name))
    assert names in refused(tmp_path, images, changed, metadata)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_cut_checkpoint_is_refused_with_the_way_out(kept, images, tmp_path, length):
    path = tmp_path / "checkpoint.safetensors"
    write_tensors(path, *kept)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cannot be read .*remove it to begin anew"):
        train(spaces.space(SPACE), images, RECIPE, tmp_path)


@pytest.mark.parametrize("damage", [{"steps": None}, {"steps": "9"}, {"history": None}, {"history": 5}, {"history": [5]}])
def test_finished_weights_that_do_not_tell_how_they_were_trained_are_refused(finished, images, tmp_path, damage):
    weights, (tensors, metadata) = tmp_path / "supernet.safetensors", finished
    write_tensors(weights, tensors, {name: value for name, value in {**metadata, **damage}.items() if value is not None})
    before = weights.read_bytes()
    with pytest.raises(CheckpointError, match="does not say how its training went"):
        train(spaces.space(SPACE), images, RECIPE, tmp_path)
    assert weights.read_bytes() == before


class HalfPrecision(Machine):
    def loss_scaler(self):
        return torch.amp.GradScaler("cpu", enabled=True)


def test_a_training_begun_in_full_precision_goes_on_in_half(kept, images, tmp_path):
    write_tensors(tmp_path / "checkpoint.safetensors", *kept)
    with pytest.raises(Stopped):
        train(spaces.space(SPACE), images, RECIPE, tmp_path, progress=stop_at(11), machine=HalfPrecision(), checkpoint_steps=1)
    _, metadata = read_tensors(tmp_path / "checkpoint.safetensors", KIND)
    assert metadata["step"] == 10 and metadata["history"][-1]["loss_scale"]["scale"] > 1
    with pytest.raises(Stopped):
        train(spaces.space(SPACE), images, RECIPE, tmp_path, progress=stop_at(12), machine=HalfPrecision(), checkpoint_steps=1)


GATES = {
    "no alpha": lambda gates: {name: tensor for name, tensor in gates.items() if name != "alpha"},
    "alpha of NaN": lambda gates: {**gates, "alpha": gates["alpha"] * torch.nan},
    "a moment missing": lambda gates: {name: tensor for name, tensor in gates.items() if name != "adam_step"},
    "moments of others": lambda gates: {**gates, "adam_exp_avg": gates["adam_exp_avg"][1:]},
    "a moment more": lambda gates: {**gates, "adam_other": torch.zeros(1)},
}


@pytest.fixture(scope="module")
def kept_gates(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    with pytest.raises(Stopped):
        train(spaces.space(BRANCHED), images, BRANCHES, folder, progress=stop_at(6), checkpoint_steps=1)
    return read_tensors(folder / "checkpoint.safetensors", KIND)


@pytest.mark.parametrize("damage", GATES)
def test_gates_that_no_training_wrote_are_refused(kept_gates, images, tmp_path, damage):
    tensors, metadata = kept_gates
    gates = GATES[damage]({name.removeprefix("gates/"): tensor for name, tensor in tensors.items() if name.startswith("gates/")})
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("gates/")}
    text = refused(tmp_path, images, {**others, **{f"gates/{name}": tensor for name, tensor in gates.items()}}, metadata, BRANCHED, BRANCHES)
    assert "kept gates" in text
