# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from predictors import accuracy
from predictors.accuracy.ofa_mlp import OfaMlpAccuracy
from predictors.folder import PredictorFileError
from predictors.ofa_encodings import resnet_encoding, tutorial_encoding
from supernets import spaces

pytestmark = pytest.mark.torch

MOBILE = "ofa-mobilenetv3-w1.2:resolutions=112:224:16"
RESNET = "ofa-resnet50:resolutions=128/144/160/176/192/224/240/256"


def tutorial_net():
    """The tutorial's network with random weights, the output bias as published."""
    torch.manual_seed(0)
    sizes = (128, 400, 400, 400, 1)
    layers = [layer for i in range(4) for layer in (torch.nn.Linear(sizes[i], sizes[i + 1]), torch.nn.ReLU())][:-1]
    net = torch.nn.Sequential(*layers)
    torch.nn.init.constant_(net[6].bias, 0.7587)
    return net


class LibraryNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        hidden = [torch.nn.Sequential(torch.nn.Linear(82 if i == 0 else 400, 400), torch.nn.ReLU()) for i in range(3)]
        self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(400, 1, bias=False))
        self.base_acc = torch.nn.Parameter(torch.full((1,), 0.8056), requires_grad=False)

    def forward(self, x):
        return self.layers(x).squeeze() + self.base_acc


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    torch.save(tutorial_net().state_dict(), folder / "tutorial.pth", _use_new_zipfile_serialization=False)  # as the authors' file is
    torch.save({"state_dict": LibraryNet().state_dict()}, folder / "resnet.pth")
    return folder


@torch.no_grad()
def test_predictions_are_those_of_the_authors_network(files):
    for file, name, net, encoding in (
        ("tutorial.pth", MOBILE, tutorial_net(), tutorial_encoding), ("resnet.pth", RESNET, LibraryNet(), resnet_encoding),
    ):  # fmt: skip
        space = spaces.space(name)
        population = space.sample_population(40, np.random.default_rng(0))
        wanted = net(torch.from_numpy(encoding(space, space.decode(population)))).flatten().double().numpy()
        predicted = OfaMlpAccuracy.from_file(files / file, name).predict(population)
        assert np.std(wanted) > 1e-3
        np.testing.assert_allclose(predicted, wanted, atol=1e-6)


def test_between_two_resolutions_accuracy_goes_with_the_square_of_the_side(files):
    whole = spaces.space("ofa-mobilenetv3-w1.2")
    predictor = OfaMlpAccuracy.from_file(files / "tutorial.pth")
    assert predictor.space_name == whole.name
    values = dict(whole.sample(np.random.default_rng(3)).values)
    at = {side: float(predictor.predict(whole.encode([whole.architecture({**values, "resolution": side})]))[0]) for side in (160, 164, 172, 176)}
    for side in (164, 172):
        share = (side**2 - 160**2) / (176**2 - 160**2)
        assert at[side] == pytest.approx(at[160] + share * (at[176] - at[160]), abs=1e-9)
    assert at[160] != at[176]


def test_it_is_saved_and_loaded_as_every_predictor(files, tmp_path):
    for file in ("tutorial.pth", "resnet.pth"):
        predictor = OfaMlpAccuracy.from_file(files / file)
        predictor.save(tmp_path / file)
        loaded = accuracy.load(tmp_path / file)
        assert isinstance(loaded, OfaMlpAccuracy) and loaded.encoding == predictor.encoding
        population = predictor.space_.sample_population(5, np.random.default_rng(0))
        np.testing.assert_array_equal(loaded.predict(population), predictor.predict(population))


def test_it_is_not_among_those_to_fit_and_says_so(files):
    assert "ofa-mlp" not in accuracy.names()
    predictor = accuracy.create("ofa-mlp", MOBILE)
    space = spaces.space(MOBILE)
    with pytest.raises(ValueError, match="is published and cannot be fitted; fit 'mlp'"):
        predictor.fit(space.sample_population(3, np.random.default_rng(0)), np.full(3, 0.7))


@pytest.mark.parametrize(("change", "message"), [
    ({"6.bias": None}, "lacks the tensor '6.bias'"),
    ({"8.weight": torch.zeros(1)}, "holds the tensor '8.weight'"),
    ({"0.weight": torch.zeros(400, 130)}, r"tensor '0.weight' of file .* is of shape \(400, 130\); expected finite numbers of \(400, 128\)"),
    ({"2.bias": torch.full((400,), torch.nan)}, "tensor '2.bias'"),
    ({"4.weight": torch.zeros(())}, "tensor '4.weight'"),
])  # fmt: skip
def test_a_wrong_file_is_refused_with_the_name_of_the_tensor(tmp_path, change, message):
    state = {name: tensor for name, tensor in {**tutorial_net().state_dict(), **change}.items() if tensor is not None}
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(PredictorFileError, match=message):
        OfaMlpAccuracy.from_file(tmp_path / "wrong.pth")


def test_a_file_with_anything_to_execute_is_refused(tmp_path):
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(PredictorFileError, match="cannot be read as plain tensors"):
        OfaMlpAccuracy.from_file(tmp_path / "pickle.pth")
    with pytest.raises(FileNotFoundError, match="was not found"):
        OfaMlpAccuracy.from_file(tmp_path / "none.pth")


@pytest.mark.parametrize(("space_name", "message"), [
    ("ofa-mobilenetv3-w1.0", "is for space 'ofa-mobilenetv3-w1.2', not 'ofa-mobilenetv3-w1.0'"),
    ("ofa-mobilenetv3-w1.2:classes=10", "is for space"),
    ("ofa-mobilenetv3-w1.2:resolutions=96/160", "knows resolutions from 112 to 224"),
])  # fmt: skip
def test_a_space_it_was_not_made_for_is_refused(files, space_name, message):
    with pytest.raises(ValueError, match=message):
        OfaMlpAccuracy.from_file(files / "tutorial.pth", space_name)
