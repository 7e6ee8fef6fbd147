# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.calibration import calibrate
from supernets.networks.static import StaticNetwork
from supernets.networks.supernet import Supernet
from supernets.training.images import input_batches, network_input
from supernets.training.validation import accuracy

pytestmark = pytest.mark.torch


def test_accuracy_is_that_of_the_calibrated_static_network_over_all_images():
    space = spaces.space("ofa-mobilenetv3-tiny:resolutions=8/12,classes=3")
    supernet, architecture = Supernet(space, seed=2), space.smallest()
    rng = np.random.default_rng(0)
    images, calibration = (rng.integers(0, 256, (count, 12, 12, 1), dtype=np.uint8) for count in (300, 40))
    child = {name: tensor.detach() for name, tensor in supernet.child(architecture).items()}
    statistics = calibrate(space.blocks(architecture), child, input_batches(calibration, 8, 256))
    static = StaticNetwork(space.blocks(architecture), {**child, **statistics}).eval()
    with torch.no_grad():
        predicted = static(network_input(images, 8)).argmax(1).numpy()
    labels = predicted.astype(np.int64)
    assert accuracy(space, supernet.tensors(), architecture, images, labels, calibration) == 1.0
    labels[250:] = (labels[250:] + 1) % 3  # wrong ones in the last, smaller batch too
    assert accuracy(space, supernet.tensors(), architecture, images, labels, calibration) == pytest.approx(250 / 300)
