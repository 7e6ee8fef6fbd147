# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""The oracle below restates Once-for-All's elastic forward pass on the authors' tensor names, apart from all code of the package."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F

from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, load_supernet, save_supernet
from supernets.networks.functional import batch_norm, forward, running_norm
from supernets.networks.ofa_checkpoint import PIXEL_STD, from_state_dict, load_ofa_checkpoint, plain_name, recognised
from supernets.networks.slicing import child_tensors
from supernets.spaces.ofa_config import to_ofa_config
from supernets.training import images

pytestmark = pytest.mark.torch

MOBILE = {  # stem, first block, stages (width, stride, activation, gate), widths after them, epsilon
    "ofa-mobilenetv3-w1.0": (16, 16, [(24, 2, "relu", 0), (40, 2, "relu", 1), (80, 2, "hs", 0), (112, 1, "hs", 1), (160, 2, "hs", 1)],
                             (960, 1280), 1e-5),
    "ofa-mobilenetv3-w1.2": (24, 24, [(32, 2, "relu", 0), (48, 2, "relu", 1), (96, 2, "hs", 0), (136, 1, "hs", 1), (192, 2, "hs", 1)],
                             (1152, 1536), 1e-5),
    "ofa-proxyless-w1.3": (
        40, 24, [(32, 2, "relu6", 0), (56, 2, "relu6", 0), (104, 2, "relu6", 0), (128, 1, "relu6", 0), (248, 2, "relu6", 0), (416, 1, "relu6", 0)],
        (1664,), 1e-3,
    ),
}  # fmt: skip
RESNET_STAGES = [((168, 208, 256), 1, 4), ((336, 408, 512), 2, 4), ((664, 816, 1024), 2, 6), ((1328, 1640, 2048), 2, 4)]
BASE_DEPTHS = (2, 2, 4, 2)
ALL = (*MOBILE, "ofa-resnet50")
ACT = {
    "relu": lambda x: x.clamp(min=0), "relu6": lambda x: x.clamp(0, 6), "hs": lambda x: x * (x + 3).clamp(0, 6) / 6, "none": lambda x: x,
}  # fmt: skip


def div8(value):
    new = max(8, int(value + 4) // 8 * 8)
    return new + 8 if new < 0.9 * value else new


class Published:
    """A random state dict with the names and shapes of the authors' files."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state = {}

    def conv(self, name, shape):
        self.state[name] = torch.randn(shape, generator=self.generator) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5

    def bn(self, name, width):
        for part, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3), ("running_var", 0.5, 1.5)):
            self.state[f"{name}.{part}"] = torch.rand(width, generator=self.generator) * (high - low) + low
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name, shape):
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * shape[1] ** -0.5
        self.state[f"{name}.bias"] = torch.randn(shape[0], generator=self.generator) * 0.1


def mobile_state(space_name):
    stem, first, stages, after, _ = MOBILE[space_name]
    p = Published()
    p.conv("first_conv.conv.weight", (stem, 3, 3, 3))
    p.bn("first_conv.bn", stem)
    p.conv("blocks.0.mobile_inverted_conv.depth_conv.conv.weight", (stem, 1, 3, 3))
    p.bn("blocks.0.mobile_inverted_conv.depth_conv.bn", stem)
    p.conv("blocks.0.mobile_inverted_conv.point_linear.conv.weight", (first, stem, 1, 1))
    p.bn("blocks.0.mobile_inverted_conv.point_linear.bn", first)
    number, before = 1, first
    for s, (width, _, _, gated) in enumerate(stages):
        for _ in range(1 if s == 5 else 4):
            block, mid = f"blocks.{number}.mobile_inverted_conv", div8(round(before * 6))
            p.conv(f"{block}.inverted_bottleneck.conv.conv.weight", (mid, before, 1, 1))
            p.bn(f"{block}.inverted_bottleneck.bn.bn", mid)
            p.conv(f"{block}.depth_conv.conv.conv.weight", (mid, 1, 7, 7))
            for big, small in ((7, 5), (5, 3)):
                noise = torch.randn((small**2, small**2), generator=p.generator) * 0.05
                p.state[f"{block}.depth_conv.conv.{big}to{small}_matrix"] = torch.eye(small**2) + noise
            p.bn(f"{block}.depth_conv.bn.bn", mid)
            if gated:
                for part, shape in (("reduce", (div8(mid // 4), mid, 1, 1)), ("expand", (mid, div8(mid // 4), 1, 1))):
                    p.conv(f"{block}.depth_conv.se.fc.{part}.weight", shape)
                    p.state[f"{block}.depth_conv.se.fc.{part}.bias"] = torch.randn(shape[0], generator=p.generator)
            p.conv(f"{block}.point_linear.conv.conv.weight", (width, mid, 1, 1))
            p.bn(f"{block}.point_linear.bn.bn", width)
            number, before = number + 1, width
    if len(after) == 2:
        p.conv("final_expand_layer.conv.weight", (after[0], before, 1, 1))
        p.bn("final_expand_layer.bn", after[0])
        p.conv("feature_mix_layer.conv.weight", (after[1], after[0], 1, 1))
    else:
        p.conv("feature_mix_layer.conv.weight", (after[0], before, 1, 1))
        p.bn("feature_mix_layer.bn", after[0])
    p.linear("classifier.linear", (1000, after[-1]))
    return p.state


def resnet_state():
    p = Published()
    for name, shape in (("0.conv", (32, 3, 3, 3)), ("1.conv.conv", (32, 32, 3, 3)), ("2.conv", (64, 32, 3, 3))):
        p.conv(f"input_stem.{name}.conv.weight", shape)
        p.bn(f"input_stem.{name.removesuffix('conv')}bn.bn", shape[0])
    number, before = 0, 64
    for widths, _, depth in RESNET_STAGES:
        for b in range(depth):
            width, mid = widths[-1], div8(round(widths[-1] * 0.35))
            for part, shape in (("conv1", (mid, before, 1, 1)), ("conv2", (mid, mid, 3, 3)), ("conv3", (width, mid, 1, 1))):
                p.conv(f"blocks.{number}.{part}.conv.conv.weight", shape)
                p.bn(f"blocks.{number}.{part}.bn.bn", shape[0])
            if b == 0:
                p.conv(f"blocks.{number}.downsample.conv.conv.weight", (width, before, 1, 1))
                p.bn(f"blocks.{number}.downsample.bn.bn", width)
            number, before = number + 1, width
    p.linear("classifier.linear.linear", (1000, 2048))
    return p.state


def state_of(space_name):
    return mobile_state(space_name) if space_name in MOBILE else resnet_state()


class Oracle:
    """The elastic forward pass; names are looked up with or without what releases repeat."""

    def __init__(self, state, eps, calibrated):
        self.state, self.eps, self.calibrated = state, eps, calibrated

    def bn(self, x, name):
        name = name if f"{name}.weight" in self.state else f"{name}.bn"
        c = x.shape[1]
        w, b, mean, var = (self.state[f"{name}.{part}"][:c] for part in ("weight", "bias", "running_mean", "running_var"))
        if not self.calibrated:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        return (x - mean[:, None, None]) / torch.sqrt(var + self.eps)[:, None, None] * w[:, None, None] + b[:, None, None]

    def conv(self, x, name, out, stride=1):
        name = name if f"{name}.weight" in self.state else f"{name}.conv"
        weight = self.state[f"{name}.weight"][:out, : x.shape[1]]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)

    def depthwise(self, x, name, kernel, stride):
        c = x.shape[1]
        weight = self.state[f"{name}.conv.weight"][:c]
        for big, small in ((7, 5), (5, 3)):
            if kernel <= small:
                cut = weight[:, :, 1:-1, 1:-1].reshape(c, small**2)
                weight = F.linear(cut, self.state[f"{name}.{big}to{small}_matrix"]).reshape(c, 1, small, small)
        return F.conv2d(x, weight, None, stride, kernel // 2, 1, c)

    def gate(self, x, name):
        mid = div8(x.shape[1] // 4)
        reduce, expand = (self.state[f"{name}.fc.{part}.weight"] for part in ("reduce", "expand"))
        y = F.conv2d(x.mean((2, 3), keepdim=True), reduce[:mid, : x.shape[1]], self.state[f"{name}.fc.reduce.bias"][:mid])
        y = F.conv2d(y.clamp(min=0), expand[: x.shape[1], :mid], self.state[f"{name}.fc.expand.bias"][: x.shape[1]])
        return x * (y + 3).clamp(0, 6) / 6

    def mobile(self, x, space_name, config):
        stem, first, stages, after, _ = MOBILE[space_name]
        outer = ACT["relu6" if len(after) == 1 else "hs"]
        x = outer(self.bn(self.conv(x, "first_conv.conv", stem, 2), "first_conv.bn"))
        block = "blocks.0.mobile_inverted_conv"
        y = F.conv2d(x, self.state[f"{block}.depth_conv.conv.weight"], None, 1, 1, 1, stem)
        y = ACT["relu6" if len(after) == 1 else "relu"](self.bn(y, f"{block}.depth_conv.bn"))
        y = self.bn(self.conv(y, f"{block}.point_linear.conv", first), f"{block}.point_linear.bn")
        x = x + y if len(after) == 2 else y
        for s, (width, stride, act, gated) in enumerate(stages):
            for b in range(1 if s == 5 else config["d"][s]):
                slot = 4 * s + b
                block, mid = f"blocks.{slot + 1}.mobile_inverted_conv", div8(round(x.shape[1] * config["e"][slot]))
                y = ACT[act](self.bn(self.conv(x, f"{block}.inverted_bottleneck.conv", mid), f"{block}.inverted_bottleneck.bn"))
                y = self.depthwise(y, f"{block}.depth_conv.conv", config["ks"][slot], stride if b == 0 else 1)
                y = ACT[act](self.bn(y, f"{block}.depth_conv.bn"))
                y = self.gate(y, f"{block}.depth_conv.se") if gated else y
                y = self.bn(self.conv(y, f"{block}.point_linear.conv", width), f"{block}.point_linear.bn")
                x = x + y if b > 0 else y
        if len(after) == 2:
            x = outer(self.bn(self.conv(x, "final_expand_layer.conv", after[0]), "final_expand_layer.bn")).mean((2, 3), keepdim=True)
            x = outer(self.conv(x, "feature_mix_layer.conv", after[1]))
        else:
            x = outer(self.bn(self.conv(x, "feature_mix_layer.conv", after[0]), "feature_mix_layer.bn")).mean((2, 3), keepdim=True)
        return F.linear(x.flatten(1), self.state["classifier.linear.weight"], self.state["classifier.linear.bias"])

    def resnet(self, x, config):
        inner, outer = (24, 24, 32)[config["w"][0]], (40, 48, 64)[config["w"][1]]
        x = ACT["relu"](self.bn(self.conv(x, "input_stem.0.conv", inner, 2), "input_stem.0.bn"))
        if config["d"][0] == 2:
            x = x + ACT["relu"](self.bn(self.conv(x, "input_stem.1.conv.conv", inner), "input_stem.1.conv.bn"))
        x = ACT["relu"](self.bn(self.conv(x, "input_stem.2.conv", outer), "input_stem.2.bn"))
        x, number = F.max_pool2d(x, 3, 2, 1), 0
        for s, (widths, stride, depth) in enumerate(RESNET_STAGES):
            width = widths[config["w"][2 + s]]
            for b in range(BASE_DEPTHS[s] + config["d"][1 + s]):
                block, mid = f"blocks.{number + b}", div8(round(width * config["e"][number + b]))
                step = stride if b == 0 else 1
                y = ACT["relu"](self.bn(self.conv(x, f"{block}.conv1.conv", mid), f"{block}.conv1.bn"))
                y = ACT["relu"](self.bn(self.conv(y, f"{block}.conv2.conv", mid, step), f"{block}.conv2.bn"))
                y = self.bn(self.conv(y, f"{block}.conv3.conv", width), f"{block}.conv3.bn")
                if b == 0:
                    x = F.avg_pool2d(x, step, step, 0, ceil_mode=True)
                    x = self.bn(self.conv(x, f"{block}.downsample.conv", width), f"{block}.downsample.bn")
                x = ACT["relu"](x + y)
            number += depth
        weight = self.state["classifier.linear.linear.weight"][:, : x.shape[1]]
        return F.linear(x.mean((2, 3)), weight, self.state["classifier.linear.linear.bias"])


def reference(state, space, architecture, x, calibrated):
    config = to_ofa_config(space, architecture)
    oracle = Oracle(state, 1e-3 if "proxyless" in space.name else 1e-5, calibrated)
    return oracle.mobile(x, space.name, config) if space.name in MOBILE else oracle.resnet(x, config)


@pytest.fixture(scope="module", params=ALL)
def published(request):
    torch.set_num_threads(1)
    state = state_of(request.param)
    return state, from_state_dict(state, our_pixels=False), spaces.space(request.param)


def logits(space, architecture, tensors, x, norm):
    blocks = space.blocks(architecture)
    return forward(blocks, x, {**child_tensors(blocks, tensors), **tensors_of_norms(tensors)}, norm)


def tensors_of_norms(tensors):
    return {name: tensor for name, tensor in tensors.items() if ".running_" in name}


@torch.no_grad()
def test_logits_of_subnets_are_those_of_the_reference(published):
    state, found, space = published
    small, rng = space.restrict({"resolution": (128,)}), np.random.default_rng(0)  # the tensors do not depend on the side
    x = torch.randn((2, 3, 128, 128), generator=torch.Generator().manual_seed(1))
    for architecture in (small.largest(), small.smallest(), *(small.sample(rng) for _ in range(4))):
        wanted = reference(state, space, architecture, x, calibrated=False)
        difference = logits(space, architecture, found.supernet().tensors(), x, batch_norm) - wanted
        assert 0.5 < float(wanted.abs().max()) < 100 and float(difference.abs().max()) < 1e-4 * max(1.0, float(wanted.abs().max()))


@torch.no_grad()
def test_the_largest_network_with_the_statistics_it_was_published_with_is_the_reference(published):
    state, found, space = published
    architecture = space.restrict({"resolution": (128,)}).largest()
    x = torch.randn((1, 3, 128, 128), generator=torch.Generator().manual_seed(2), dtype=torch.float64)  # random statistics let maps grow
    wanted = reference({name: tensor.double() for name, tensor in state.items()}, space, architecture, x, calibrated=True)
    got = logits(space, architecture, {name: tensor.double() for name, tensor in {**found.tensors, **found.statistics}.items()}, x, running_norm)
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-4


def test_the_oracle_tells_kernels_apart(published):
    _, found, space = published
    if "resnet" in space.name:
        pytest.skip("its kernels are of one size")
    matrices = [name for name in found.tensors if name.endswith("_matrix")]
    assert len(matrices) == 2 * (21 if "proxyless" in space.name else 20)
    assert all(not torch.equal(found.tensors[name], torch.eye(len(found.tensors[name]))) for name in matrices)


def test_the_space_is_found_by_the_shapes(published):
    state, found, space = published
    assert found.space.name == space.name == recognised(state)


def test_a_checkpoint_of_other_classes_names_them():
    state = mobile_state("ofa-mobilenetv3-w1.0")
    state["classifier.linear.weight"], state["classifier.linear.bias"] = torch.zeros(100, 1280), torch.zeros(100)
    assert from_state_dict(state).space.name == "ofa-mobilenetv3-w1.0:classes=100"


def test_names_of_all_releases_are_read_alike():
    state = mobile_state("ofa-mobilenetv3-w1.0")
    newer = {plain_name(name): tensor for name, tensor in state.items()}
    assert set(newer) != set(state)
    one, other = from_state_dict(state), from_state_dict(newer)
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize("space_name", ALL)
@pytest.mark.parametrize(("fault", "message"), [
    ("missing", r"lacks the tensor 'blocks.3.*1 missing, 0 too many"),
    ("extra", r"holds the tensor 'blocks.99.conv.weight', which space"),
    ("misshapen", r"tensor 'blocks.3.*of shape \(5, 5\); expected numbers of shape"),
    ("not finite", r"tensor 'blocks.3.*infinity or NaN"),
    ("no numbers", r"tensor 'blocks.3.*is int64 of shape"),
])  # fmt: skip
def test_a_wrong_checkpoint_is_refused_with_the_name_of_the_tensor(space_name, fault, message):
    state = state_of(space_name)
    name = next(name for name in state if name.startswith("blocks.3") and name.endswith("weight"))
    state.update({
        "missing": {}, "extra": {"blocks.99.conv.weight": torch.zeros(1)}, "misshapen": {name: torch.zeros(5, 5)},
        "not finite": {name: torch.full_like(state[name], torch.inf)}, "no numbers": {name: state[name].long()},
    }[fault])  # fmt: skip
    if fault == "missing":
        del state[name]
    with pytest.raises(CheckpointError, match=message):
        from_state_dict(state)


def test_a_checkpoint_of_something_else_is_refused():
    with pytest.raises(CheckpointError, match="no supernet of Once-for-All.*expected one of ofa-mobilenetv3-w1.0"):
        from_state_dict({"weight": torch.zeros(3)})


def test_a_file_of_the_authors_form_is_read_and_kept(tmp_path):
    state = mobile_state("ofa-mobilenetv3-w1.0")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "ofa_mbv3_d234_e346_k357_w1.0")
    found = load_ofa_checkpoint(tmp_path / "ofa_mbv3_d234_e346_k357_w1.0")
    save_supernet(tmp_path / "supernet.safetensors", found.supernet())
    kept = load_supernet(tmp_path / "supernet.safetensors").tensors()
    assert all(torch.equal(kept[name], tensor) for name, tensor in found.tensors.items())


def test_a_file_with_anything_to_execute_is_refused(tmp_path):
    (tmp_path / "pickle").write_bytes(pickle.dumps({"state_dict": {"a": np.zeros(3)}}))
    (tmp_path / "text").write_text("no tensors")
    torch.save({"a": torch.zeros(1), "b": "text"}, tmp_path / "mixed")
    torch.save([torch.zeros(1)], tmp_path / "list")
    for name, message in (("pickle", "cannot be read as plain tensors"), ("text", "cannot be read"), ("mixed", "holds 'b'"), ("list", "no names")):
        with pytest.raises(CheckpointError, match=message):
            load_ofa_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="was not found"):
        load_ofa_checkpoint(tmp_path / "nothing")


@torch.no_grad()
def test_the_stem_takes_pixels_as_this_package_makes_them():
    assert PIXEL_STD == images.PIXEL_STD
    state = mobile_state("ofa-mobilenetv3-w1.0")
    theirs, ours = (from_state_dict(state, our_pixels=choice).tensors["stem.conv.weight"] for choice in (False, True))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16))).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    one = F.conv2d((pixels - mean[:, None, None]) / std[:, None, None], theirs)
    other = F.conv2d((pixels - images.PIXEL_MEAN) / images.PIXEL_STD, ours)
    assert torch.allclose(one - one.mean((0, 2, 3), keepdim=True), other - other.mean((0, 2, 3), keepdim=True), atol=1e-5)
