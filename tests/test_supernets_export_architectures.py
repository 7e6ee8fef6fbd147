"""Twenty random networks of every space (all, where it has fewer), cut out of its supernet and exported: the files compute what it does in torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from graph_reference import onnx, run_litert, run_onnx, torch

from supernets.export.onnx_graph import onnx_model
from supernets.export.subnet import cut_subnet
from supernets.export.tflite_graph import tflite_model
from supernets.export.torch_program import torch_model
from supernets.export.weights import fold
from supernets.networks.branched import BranchedSupernet, branched_forward, calibrate_branches
from supernets.networks.branches import BRANCHES, has_branches, kept_branches
from supernets.networks.supernet import Supernet
from supernets.space import Architecture, Choice, SearchSpace, unique_rows
from supernets.spaces import SPACES, space

pytestmark = pytest.mark.torch

NETWORKS = 20
TOLERANCE = 1e-4  # of the largest output, between float32 in torch, norms unfolded and branches apart, and float32 in a runtime
AT_OWN_SIDE = 5  # networks of an ImageNet-size space that keep the resolution drawn; the others have its smallest, which costs less
BRANCHED = "ofa-mobilenetv3-tiny with branches"
TINY = [*sorted(name for name in SPACES if name.endswith("-tiny")), BRANCHED]
IMAGENET = sorted(set(SPACES) - set(TINY))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: these maps are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_program(content: bytes, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.export.load(io.BytesIO(content)).module()(torch.from_numpy(images)).numpy()


def checked_onnx_model(*arguments) -> bytes:
    model = onnx_model(*arguments)
    onnx.checker.check_model(model, full_check=True)
    return model


RUNTIMES: dict[str, tuple[Callable[..., bytes], Callable[[bytes, np.ndarray], np.ndarray]]] = {
    "ONNX Runtime": (checked_onnx_model, run_onnx),
    "LiteRT": (tflite_model, run_litert),
    "torch.export": (torch_model, run_program),
}


def searched(name: str) -> SearchSpace:
    if name != BRANCHED:
        return space(name)
    plain = space("ofa-mobilenetv3-tiny")
    places = {"stage1.block0": BRANCHES[:-1], "stage2.block1": BRANCHES, "stage3.block0": BRANCHES[:-1]}
    choices = [Choice(f"{place}.{branch}", (0, 1)) for place, branches in places.items() for branch in branches]
    return replace(plain, choices=(*plain.choices, *choices))


def drawn(whole: SearchSpace, own_side: int) -> list[Architecture]:
    """Return different random networks, those after the first `own_side` at the smallest resolution where that leaves them different."""
    population = whole.sample_different(NETWORKS, np.random.default_rng(20))
    smaller = population.copy()
    smaller[own_side:, whole.position["resolution"]] = 0
    return whole.decode(smaller if len(unique_rows(smaller)) == len(population) else population)


def random_supernet(whole: SearchSpace) -> Supernet:
    """Return a supernet none of whose tensors has a special value."""
    supernet = BranchedSupernet(whole, own_weights=True, seed=1) if has_branches(whole) else Supernet(whole, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in supernet.tensors().values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return supernet


def float_logits(supernet: Supernet, architecture: Architecture, calibration: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    """Return what the supernet's own network gives in torch: slices, calibrated norms unfolded, branches apart."""
    blocks = supernet.space.blocks(architecture)
    kept = kept_branches(blocks, architecture)
    tensors = {name: tensor.detach() for name, tensor in supernet.child(architecture).items()}
    tensors |= calibrate_branches(blocks, tensors, kept, [calibration])
    return branched_forward(blocks, images, tensors, kept).numpy()


def assert_exports_agree(name: str, networks: dict[str, int], own_side: int, record_property: Callable[[str, object], None]) -> None:
    """Export so many of the networks for each runtime, run them, and note the largest deviation of each."""
    whole = searched(name)
    supernet, generator = random_supernet(whole), torch.Generator().manual_seed(3)
    deviations: dict[str, list[float]] = {runtime: [] for runtime in networks}
    architectures = drawn(whole, own_side)
    assert len(set(architectures)) == min(NETWORKS, whole.size())
    for number, architecture in enumerate(architectures):
        blocks = whole.blocks(architecture)
        shape = (blocks[0].in_channels, blocks[0].input_side, blocks[0].input_side)
        calibration, images = (torch.randn(count, *shape, generator=generator) for count in (2, 1))
        expected = float_logits(supernet, architecture, calibration, images)
        weights = fold(cut_subnet(supernet, architecture, [calibration]).arrays(), blocks)
        for runtime in (runtime for runtime, count in networks.items() if number < count):
            write, run = RUNTIMES[runtime]
            found = run(write(blocks, weights), images.numpy())
            assert found.shape == expected.shape
            deviation = float(np.abs(found - expected).max() / np.abs(expected).max())
            assert deviation <= TOLERANCE, f"{runtime} is off by {deviation:.1e} of the largest output for {architecture}"
            deviations[runtime].append(deviation)
    for runtime, found in deviations.items():
        record_property(runtime, f"{max(found):.1e}")


@pytest.mark.parametrize("name", TINY)
def test_files_of_small_networks_compute_what_the_supernet_does(name: str, record_property) -> None:
    """Programs take most of the time: all but a few are left to the test below."""
    assert_exports_agree(name, {**dict.fromkeys(RUNTIMES, NETWORKS), "torch.export": 2}, NETWORKS, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_programs_of_small_networks_compute_what_the_supernet_does(name: str, record_property) -> None:
    assert_exports_agree(name, {"torch.export": NETWORKS}, NETWORKS, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", IMAGENET)
def test_files_and_programs_of_networks_of_imagenet_size_compute_what_the_supernet_does(name: str, record_property) -> None:
    assert_exports_agree(name, dict.fromkeys(RUNTIMES, NETWORKS), AT_OWN_SIDE, record_property)
