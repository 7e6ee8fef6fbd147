# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from predictors import accuracy
from profiler.files import FileKindError
from profiler.ofa_importing import import_ofa
from profiler.subnet import read_subnet
from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, load_supernet, supernet_metadata
from tests.test_predictors_accuracy_ofa_mlp import tutorial_net
from tests.test_supernets_networks_ofa_checkpoint import mobile_state
from tests.test_supernets_spaces_ofa_net_config import described

pytestmark = pytest.mark.torch


def test_a_supernet_becomes_a_file_that_is_loaded_as_any(tmp_path):
    torch.save({"state_dict": mobile_state("ofa-proxyless-w1.3")}, tmp_path / "ofa_proxyless_d234_e346_k357_w1.3")
    imported = import_ofa(tmp_path / "ofa_proxyless_d234_e346_k357_w1.3", tmp_path / "supernet.safetensors")
    assert (imported.kind, imported.space) == ("supernet", "ofa-proxyless-w1.3")
    metadata = supernet_metadata(imported.out)
    assert metadata["provenance"]["file"] == "ofa_proxyless_d234_e346_k357_w1.3" and metadata["weight_scale"] == pytest.approx(0.1)
    supernet = load_supernet(imported.out)
    architecture = supernet.space.restrict({"resolution": (128,)}).smallest()
    assert supernet(torch.zeros(2, 3, 128, 128), architecture).shape == (2, 1000)


def test_a_predictor_becomes_a_folder_that_is_loaded_as_any(tmp_path):
    torch.save(tutorial_net().state_dict(), tmp_path / "acc_predictor.pth")
    imported = import_ofa(tmp_path / "acc_predictor.pth", tmp_path / "predictor")
    assert (imported.kind, imported.space) == ("accuracy predictor", "ofa-mobilenetv3-w1.2")
    space = spaces.space(imported.space)
    assert accuracy.load(imported.out, space).predict(space.sample_population(3, np.random.default_rng(0))).shape == (3,)


def test_a_description_becomes_a_subnet_file(tmp_path):
    space = spaces.space("ofa-mobilenetv3-w1.2")
    architecture = space.sample(np.random.default_rng(0))
    (tmp_path / "net.config").write_text(json.dumps(described(space.name, architecture)))
    imported = import_ofa(tmp_path / "net.config", tmp_path / "subnet.json", resolution=architecture["resolution"])
    assert imported.kind == "subnet" and read_subnet(imported.out).architecture == architecture
    with pytest.raises(ValueError, match="and not its resolution; give it with --resolution"):
        import_ofa(tmp_path / "net.config", tmp_path / "other.json")


def test_what_is_none_of_these_is_refused_and_nothing_written(tmp_path):
    (tmp_path / "text").write_text("nothing")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other")
    (tmp_path / "empty").touch()
    (tmp_path / "net.config").write_text("{")
    (tmp_path / "own.safetensors").touch()
    (tmp_path / "folder").mkdir()
    for file, kind, message in (
        ("text", CheckpointError, "cannot be read as plain tensors"), ("other", CheckpointError, "is no supernet of Once-for-All"),
        ("empty", CheckpointError, r"\(it is empty, or cut off\)"), ("net.config", ValueError, "is not a JSON file .* Once-for-All's authors"),
        ("own.safetensors", ValueError, "need no import"), ("folder", FileKindError, "folder is a folder; expected a file"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            import_ofa(tmp_path / file, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        import_ofa(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_kind_tells_what_to_do_next(tmp_path):
    torch.save(tutorial_net().state_dict(), tmp_path / "acc_predictor.pth")
    imported = import_ofa(tmp_path / "acc_predictor.pth", tmp_path / "predictor")
    assert "predicts with it" in imported.sentence() and json.loads(json.dumps(imported.to_dict()))["kind"] == imported.kind


class Code:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("wrapped", [lambda code: {"state_dict": code}, lambda code: {"classifier.linear.weight": code}, lambda code: code])
def test_code_in_a_file_is_not_run_nor_advised_to_be(tmp_path, wrapped):
    torch.save(wrapped(Code(tmp_path / "ran")), tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="never loaded here as that can run code") as error:
        import_ofa(tmp_path / "file.pth", tmp_path / "out")
    assert "weights_only" not in str(error.value) and sorted(file.name for file in tmp_path.iterdir()) == ["file.pth"]


@pytest.mark.parametrize("classifier, message", [(torch.tensor(1.0), "is one number"), (torch.zeros(0, 5), "is of no space: classes is 0")])
def test_a_classifier_without_classes_is_refused_by_the_files_name(tmp_path, classifier, message):
    state = {
        "first_conv.conv.weight": torch.zeros(24, 3, 3, 3),
        "final_expand_layer.conv.weight": torch.zeros(1),
        "classifier.linear.weight": classifier,
    }
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=f"file.pth.*{message}"):
        import_ofa(tmp_path / "file.pth", tmp_path / "out")


@pytest.mark.parametrize("description", [{}, {"name": 5}, {"name": "MobileNetV3", "blocks": "abc"}])
def test_a_damaged_description_is_refused_by_the_files_name(tmp_path, description):
    (tmp_path / "net.config").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="net.config' cannot be imported: a network's description"):
        import_ofa(tmp_path / "net.config", tmp_path / "out", resolution=224)
    assert not (tmp_path / "out").exists()
