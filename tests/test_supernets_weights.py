# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""The trained supernet that comes with the package."""

import hashlib
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import supernets
from supernets.networks.checkpoint import load_supernet, supernet_metadata
from supernets.training.data import open_images
from supernets.training.phases import Recipe
from supernets.training.recipes import recipe
from supernets.training.validation import accuracy

WEIGHTS = Path(supernets.__file__).parent / "weights" / "ofa_mobilenetv3_tiny_fashion_mnist.safetensors"
pytestmark = [pytest.mark.torch, pytest.mark.skipif(not WEIGHTS.exists(), reason="this copy has no trained weights")]


@pytest.fixture(scope="module")
def record():
    return json.loads(WEIGHTS.with_suffix(".json").read_text())


def test_the_record_is_of_the_file(record):
    assert record["file"] == WEIGHTS.name and record["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert record["metadata"] == supernet_metadata(WEIGHTS)
    assert WEIGHTS.stat().st_size < 3_100_000


def test_metadata_say_how_to_make_the_file_again(record):
    settings, origin = record["metadata"]["settings"], record["metadata"]["provenance"]
    assert Recipe.from_dict(settings["recipe"]) == recipe("small") and settings["seed"] == 0
    assert settings["images_sha256"] == open_images().fingerprint and origin["images"] == "fashion-mnist-subset"
    assert origin["command"].startswith("profiler train --space ofa-mobilenetv3-tiny --images fashion-mnist-subset --recipe small --seed 0")


def test_the_weights_reach_the_recorded_accuracy(record):
    supernet, images = load_supernet(WEIGHTS), open_images()
    corner = supernet.space.smallest()
    first, labels = images.test_images[:500], images.test_labels[:500]
    reached = accuracy(supernet.space, supernet.tensors(), corner, first, labels, images.calibration_images(512))
    assert reached == pytest.approx(record["test_top1"]["smallest"], abs=0.04)
    assert record["test_top1"]["largest"] > record["test_top1"]["smallest"] > 0.75
