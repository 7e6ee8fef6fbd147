"""A network's own description in Once-for-All's format (`net.config`, JSON) → the architecture of a space that it is.

The three families are told by `name`: `MobileNetV3`, `ProxylessNASNets`, `ResNets`. Of each block are read what the space chooses:
kernel size, inner width (`mid_channels`, or the factor `expand_ratio` of its input) and width; stages are told by their widths. The rest
(strides, activations, squeeze-and-excitation, head) is compared with the space. Such files do not know their resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supernets import spaces
from supernets.blocks import BlockSpec, make_divisible
from supernets.space import Architecture, ArchitectureError, SearchSpace, Value
from supernets.spaces.ofa_config import is_resnet
from supernets.spaces.ofa_resnet50 import EXTRA_DEPTHS

FAMILIES = {
    "MobileNetV3": ("ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2"), "ProxylessNASNets": ("ofa-proxyless-w1.0", "ofa-proxyless-w1.3"),
    "ResNets": ("ofa-resnet50",),
}  # fmt: skip
Config = Mapping[str, Any]


def from_net_config(config: Config, resolution: int, space: SearchSpace | None = None) -> Architecture:
    """Return the architecture of a network's description; its space is found among the published ones where none is given.

    Raises:
        ArchitectureError: it is no such description, or no space that is known has the network; the text names the first block that does not fit.
    """
    try:
        return _found(config, resolution, space)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ArchitectureError(f"a network's description lacks {error}; expected one that Once-for-All wrote (net.config)") from None


def _found(config: Config, resolution: int, space: SearchSpace | None) -> Architecture:
    name = config["name"]
    if name not in FAMILIES:
        raise ArchitectureError(f"a network's description is of {name!r}; expected one of {', '.join(FAMILIES)}")
    classes = config["classifier"]["out_features"]
    candidates = [space] if space is not None else [spaces.space(_named(each, resolution, classes)) for each in FAMILIES[name]]
    errors = []
    for candidate in candidates:
        try:
            architecture = candidate.architecture({"resolution": resolution, **_values(config, candidate)})
            _compare(config, candidate.blocks(architecture))
            return architecture
        except ArchitectureError as error:
            errors.append(f"{candidate.name}: {error}")
    raise ArchitectureError(f"no space has the network described ({'; '.join(errors)})")


def _named(space_name: str, resolution: int, classes: int) -> str:
    sides = next(choice.values for choice in spaces.space(space_name).choices if choice.name == "resolution")
    options = ([] if resolution in sides else [f"resolutions={resolution}"]) + ([] if classes == 1000 else [f"classes={classes}"])
    return ":".join(filter(None, [space_name, ",".join(options)]))


def _values(config: Config, space: SearchSpace) -> dict[str, Value]:
    return _resnet_values(config, space) if is_resnet(space) else _mobile_values(config, space)


def _mobile_values(config: Config, space: SearchSpace) -> dict[str, Value]:
    largest = space.blocks(space.largest())
    widths = {block.name.partition(".")[0]: block.out_channels for block in largest if block.name.startswith("stage")}
    stages = _stages([_convolution(block) for block in config["blocks"][1:]], widths)
    values: dict[str, Value] = {}
    for stage, blocks in stages.items():
        if f"{stage}.depth" in space.position:
            values[f"{stage}.depth"] = len(blocks)
        for number, block in enumerate(blocks):
            place = f"{stage}.block{number}"
            values[f"{place}.kernel_size"] = block["kernel_size"]
            values[f"{place}.expand_ratio"] = _ratio(block, space, f"{place}.expand_ratio", block["in_channels"])
    return values


def _resnet_values(config: Config, space: SearchSpace) -> dict[str, Value]:
    stem = config["input_stem"]
    middle = len(stem) - 2  # convolutions between the first and the last
    values: dict[str, Value] = {"stem.inner_width": stem[0]["out_channels"], "stem.middle": middle, "stem.width": stem[-1]["out_channels"]}
    stages: list[list[Config]] = []
    for block in config["blocks"]:
        if not stages or block["out_channels"] != stages[-1][-1]["out_channels"]:
            stages.append([])
        stages[-1].append(block)
    for number, blocks in enumerate(stages, start=1):
        slots = sum(choice.name.startswith(f"stage{number}.block") for choice in space.choices)
        values[f"stage{number}.width"] = blocks[0]["out_channels"]
        values[f"stage{number}.extra_depth"] = len(blocks) - (slots - max(EXTRA_DEPTHS))
        for place, block in enumerate(blocks):
            name = f"stage{number}.block{place}.expand_ratio"
            values[name] = _ratio(block, space, name, block["out_channels"])
    return values


def _convolution(block: Config) -> Config:
    found: Config = block["conv"] if "conv" in block else block["mobile_inverted_conv"]
    return found


def _stages(blocks: Sequence[Config], widths: Mapping[str, int]) -> dict[str, list[Config]]:
    """Return the blocks of each stage: they follow one another, and each stage has its width."""
    stages: dict[str, list[Config]] = {stage: [] for stage in widths}
    names = list(widths)
    current = 0
    for number, block in enumerate(blocks, start=1):
        while current < len(names) and block["out_channels"] != widths[names[current]]:
            current += 1
        if current == len(names):
            raise ArchitectureError(f"block {number} has {block['out_channels']} channels; expected, in order, {list(widths.values())}")
        stages[names[current]].append(block)
    return stages


def _ratio(block: Config, space: SearchSpace, name: str, of_channels: int) -> Value:
    """Return the expansion that gives the block's inner width, as the space rounds it; as it says itself, where it says no width."""
    mid = block.get("mid_channels")
    if mid is None:
        ratio: Value = block["expand_ratio"]
        return ratio
    if name not in space.position:
        raise ArchitectureError(f"the network has a block more than the space, at {name.removesuffix('.expand_ratio')!r}")
    for value in space.choices[space.position[name]].values:
        if make_divisible(round(of_channels * float(value))) == mid:
            return value
    raise ArchitectureError(f"slot {name!r} would need an inner width of {mid} from {of_channels} channels, which no expansion gives")


def _compare(config: Config, blocks: Sequence[BlockSpec]) -> None:
    """Check strides, activations, squeeze-and-excitation and head against the space's own blocks."""
    described = [block if config["name"] == "ResNets" else _convolution(block) for block in config["blocks"]]
    own = [block for block in blocks if block.name == "first_block" or block.name.startswith("stage")]
    for number, (theirs, ours) in enumerate(zip(described, own, strict=True)):
        wanted = {"stride": ours.stride, "act_func": ours.activation, "use_se": ours.se_channels > 0, "out_channels": ours.out_channels}
        for key, value in wanted.items():
            if theirs.get(key, value) != value:
                raise ArchitectureError(f"block {number} has {key} {theirs[key]!r}; the space has {value!r} there")
    by_name = {block.name: block for block in blocks}
    for key, place in (
        ("first_conv", "stem"),
        ("final_expand_layer", "final_expand"),
        ("feature_mix_layer", "feature_mix"),
        ("classifier", "classifier"),
    ):
        if key in config and place in by_name:
            width = config[key].get("out_channels", config[key].get("out_features"))
            if width != by_name[place].out_channels:
                raise ArchitectureError(f"{key} has {width} channels; the space has {by_name[place].out_channels} there")
