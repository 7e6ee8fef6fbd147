from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from supernets import spaces
from supernets.blocks import BlockSpec
from supernets.space import ArchitectureError
from supernets.spaces.ofa_net_config import from_net_config

NAMES = {"ofa-mobilenetv3-w1.0": "MobileNetV3", "ofa-mobilenetv3-w1.2": "MobileNetV3", "ofa-proxyless-w1.3": "ProxylessNASNets",
         "ofa-resnet50": "ResNets"}  # fmt: skip


def layer(block: BlockSpec) -> dict:
    return {"name": "ConvLayer", "in_channels": block.in_channels, "out_channels": block.out_channels, "kernel_size": block.kernel_size}


def mobile(block: BlockSpec, key: str, ratio: bool) -> dict:
    inner = {
        "name": "MBInvertedConvLayer", "in_channels": block.in_channels, "out_channels": block.out_channels, "kernel_size": block.kernel_size,
        "stride": block.stride, "act_func": block.activation, "use_se": block.se_channels > 0, "mid_channels": None if ratio else block.mid_channels,
        "expand_ratio": round(block.mid_channels / block.in_channels),
    }  # fmt: skip
    return {"name": "MobileInvertedResidualBlock", key: inner, "shortcut": None}


def described(space_name: str, architecture, key: str = "conv", ratio: bool = False) -> dict:
    """The description the authors' code writes for a network."""
    blocks = {}
    for block in spaces.space(space_name).blocks(architecture):
        blocks.setdefault(block.name, block)
    head = {"classifier": {"name": "LinearLayer", "in_features": blocks["classifier"].in_channels, "out_features": blocks["classifier"].out_channels}}
    staged = [block for name, block in blocks.items() if name.startswith("stage")]
    if NAMES[space_name] == "ResNets":
        stem = [layer(blocks["stem"])]
        stem += [{"name": "ResidualBlock", "conv": layer(blocks["stem_middle"])}] if "stem_middle" in blocks else []
        bottlenecks = [
            {"name": "ResNetBottleneckBlock", "in_channels": b.in_channels, "out_channels": b.out_channels, "kernel_size": 3, "stride": b.stride,
             "expand_ratio": 0.25, "mid_channels": b.mid_channels, "act_func": "relu"} for b in staged
        ]  # fmt: skip
        return {"name": "ResNets", "bn": {}, "input_stem": [*stem, layer(blocks["stem_out"])], "blocks": bottlenecks, **head}
    found = {"name": NAMES[space_name], "bn": {}, "first_conv": layer(blocks["stem"]), "feature_mix_layer": layer(blocks["feature_mix"]), **head}
    if "final_expand" in blocks:
        found["final_expand_layer"] = layer(blocks["final_expand"])
    return {**found, "blocks": [mobile(blocks["first_block"], key, False), *(mobile(block, key, ratio) for block in staged)]}


@pytest.mark.parametrize("space_name", NAMES)
def test_every_network_comes_back_from_its_description(space_name):
    space = spaces.space(space_name)
    for architecture in [space.largest(), space.smallest(), *space.decode(space.sample_population(20, np.random.default_rng(0)))]:
        config = json.loads(json.dumps(described(space_name, architecture)))
        found = from_net_config(config, architecture["resolution"])
        assert found == architecture
        assert found == from_net_config(config, architecture["resolution"], space)


def test_older_names_and_ratios_are_read_too():
    space = spaces.space("ofa-mobilenetv3-w1.0")
    architecture = space.sample(np.random.default_rng(1))
    assert from_net_config(described(space.name, architecture, "mobile_inverted_conv", ratio=True), architecture["resolution"]) == architecture


def test_a_resolution_the_space_lacks_becomes_its_option():
    space = spaces.space("ofa-mobilenetv3-w1.2")
    found = from_net_config(described(space.name, space.largest()), 236)
    assert (found.space, found["resolution"]) == ("ofa-mobilenetv3-w1.2:resolutions=236", 236)


def without(config: dict, key: str) -> dict:
    return {name: value for name, value in config.items() if name != key}


def changed(config: dict, number: int, key: str, value: object) -> dict:
    result = copy.deepcopy(config)
    result["blocks"][number]["conv"][key] = value
    return result


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: {**c, "name": "EfficientNet"}, "is of 'EfficientNet'; expected one of MobileNetV3, ProxylessNASNets, ResNets"),
    (lambda c: without(c, "blocks"), "lacks 'blocks'"),
    (lambda c: changed(c, 3, "kernel_size", 9), "stage1.block2.kernel_size' has the value 9"),
    (lambda c: changed(c, 3, "mid_channels", 99), "inner width of 99 from 24 channels, which no expansion gives"),
    (lambda c: changed(c, 3, "out_channels", 25), "block 3 has 25 channels; expected, in order"),
    (lambda c: changed(c, 5, "use_se", False), "block 5 has use_se False; the space has True there"),
    (lambda c: changed(c, 5, "stride", 1), "block 5 has stride 1"),
    (lambda c: {**c, "feature_mix_layer": {"out_channels": 7}}, "feature_mix_layer has 7 channels"),
    (lambda c: {**c, "blocks": c["blocks"] + c["blocks"][-1:]}, "block more than the space, at 'stage5.block4'"),
])  # fmt: skip
def test_what_is_no_network_of_a_space_is_refused(change, message):
    space = spaces.space("ofa-mobilenetv3-w1.0")
    with pytest.raises(ArchitectureError, match=message):
        from_net_config(change(described(space.name, space.largest())), 224)
