# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.calibration import calibrate
from supernets.networks.functional import batch_norm, forward, running_norm
from supernets.networks.supernet import Supernet

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def space():
    return spaces.space("ofa-mobilenetv3-tiny")


@pytest.fixture(scope="module")
def network(space):
    """Blocks and learned tensors of a child."""
    architecture = space.smallest()
    return space.blocks(architecture), {name: tensor.detach() for name, tensor in Supernet(space, seed=5).child(architecture).items()}


def batches(*counts):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 1, 20, 20, generator=generator) for count in counts]


def stem_map(tensors, x):
    return torch.nn.functional.conv2d(x, tensors["stem.conv.weight"], stride=2, padding=1)


def test_statistics_of_one_batch_are_its_mean_and_biased_variance(network):
    blocks, tensors = network
    (x,) = batches(16)
    statistics = calibrate(blocks, tensors, [x])
    torch.testing.assert_close(statistics["stem.conv.bn.running_mean"], stem_map(tensors, x).mean((0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(statistics["stem.conv.bn.running_var"], stem_map(tensors, x).var((0, 2, 3), unbiased=False), atol=1e-6, rtol=1e-5)


def test_network_calibrated_on_one_batch_computes_on_it_what_training_does(network):
    blocks, tensors = network
    (x,) = batches(16)
    with torch.no_grad():
        calibrated = forward(blocks, x, {**tensors, **calibrate(blocks, tensors, [x])}, running_norm)
        torch.testing.assert_close(calibrated, forward(blocks, x, tensors, batch_norm), atol=1e-4, rtol=1e-4)


def test_batches_are_averaged_by_their_size(network):
    blocks, tensors = network
    small, large = batches(4, 12)
    alone = [calibrate(blocks, tensors, [batch]) for batch in (small, large)]
    both = calibrate(blocks, tensors, [small, large])
    for name, value in both.items():
        torch.testing.assert_close(value, (4 * alone[0][name] + 12 * alone[1][name]) / 16, atol=1e-5, rtol=1e-4)


def test_means_of_equal_batches_are_those_of_the_concatenated_ones_and_variances_lack_that_of_the_means(network):
    blocks, tensors = network
    parts = batches(8, 8, 8, 8)
    found, whole = calibrate(blocks[:1], tensors, parts), calibrate(blocks[:1], tensors, [torch.cat(parts)])
    mean, var = "stem.conv.bn.running_mean", "stem.conv.bn.running_var"
    torch.testing.assert_close(found[mean], whole[mean], atol=1e-7, rtol=1e-6)
    means = torch.stack([stem_map(tensors, part).mean((0, 2, 3)) for part in parts])
    torch.testing.assert_close(found[var] + means.var(0, unbiased=False), whole[var], atol=1e-6, rtol=1e-5)


def test_batches_that_look_alike_give_every_norm_what_the_concatenated_ones_do(network):
    """Statistics of later norms depend on how a batch was normalised before: here, in both cases, the same way."""
    blocks, tensors = network
    (x,) = batches(16)
    found, whole = (calibrate(blocks, tensors, parts) for parts in ([x, x.flip(0), x.roll(5, 0)], [torch.cat([x, x.flip(0), x.roll(5, 0)])]))
    assert found.keys() == whole.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-4)


def test_every_norm_gets_statistics_and_no_weight_changes(network):
    blocks, tensors = network
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    statistics = calibrate(blocks, tensors, batches(8))
    norms = [convolution.name for block in blocks for convolution in block.convolutions() if convolution.norm]
    assert set(statistics) == {f"{name}.bn.{part}" for name in norms for part in ("running_mean", "running_var")}
    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)
    assert all(not value.requires_grad and value.dtype == torch.float32 for value in statistics.values())
    assert all((statistics[f"{name}.bn.running_var"] >= 0).all() for name in norms)


def test_no_batch_is_refused(network):
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(*network, [])
