"""Published Once-for-All checkpoints → supernets here: their tensors by our names, every one checked, nothing unpickled but tensors.

Files are those of the authors' model zoo: `ofa_mbv3_d234_e346_k357_w1.0` and `_w1.2`, `ofa_proxyless_d234_e346_k357_w1.3`, `ofa_resnet50`;
`mobile_inverted_conv` and repeated parts (`conv.conv`, `bn.bn`, `linear.linear`) of their names, which differ between releases, are read alike.

Two differences of convention are put into the weights, both exactly. ProxylessNAS normalises with an epsilon of 1e-3, this
package with 1e-5: weights before its norms are multiplied by the root of their ratio, which their norms undo. Their
images are standardised by ImageNet's mean and deviation, ours by `images.PIXEL_MEAN` and `PIXEL_STD`: the ratio of deviations
goes into the stem; the shift vanishes in the stem's norm, except that the border is padded with grey, not with ImageNet's mean.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets import spaces
from supernets.blocks import BlockSpec
from supernets.networks.checkpoint import CheckpointError
from supernets.networks.functional import BN_EPS
from supernets.networks.supernet import Supernet
from supernets.space import SearchSpace
from supernets.spaces.ofa_config import is_resnet

SPACES = ("ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2", "ofa-proxyless-w1.3", "ofa-resnet50")
PROXYLESS_EPS = 1e-3
PIXEL_STD = 0.25  # of `supernets.training.images`, which every image here goes through
IMAGENET_STD = (0.229, 0.224, 0.225)
UNUSED = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var")
PLACES = {  # fixed places of our networks → prefix of their tensors in a checkpoint
    "stem": "first_conv", "first_block": "blocks.0.conv", "final_expand": "final_expand_layer", "feature_mix": "feature_mix_layer",
    "classifier": "classifier.linear",
}  # fmt: skip
RESNET_PLACES = {"stem": "input_stem.0", "stem_middle": "input_stem.1.conv", "stem_out": "input_stem.2", "classifier": "classifier.linear"}
PARTS = {  # parts of our blocks → parts of theirs
    "conv": "", "expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear", "se_reduce": "depth_conv.se.fc.reduce",
    "se_expand": "depth_conv.se.fc.expand", "reduce": "conv1", "spatial": "conv2", "restore": "conv3", "shortcut": "downsample",
}  # fmt: skip
BARE = ("se_reduce", "se_expand")  # parts whose weight has no `conv` before it
REPEATED = re.compile(r"(\.(?:conv|bn|linear))\1+(?=\.)")


@dataclass(frozen=True)
class OfaCheckpoint:
    """A checkpoint by our names: the supernet's tensors, and the statistics that the largest network was published with.

    `weight_scale` is what weights before a norm were multiplied by.
    """

    space: SearchSpace
    tensors: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]
    weight_scale: float

    def supernet(self) -> Supernet:
        """Return the supernet that holds these tensors."""
        supernet = Supernet(self.space)
        with torch.no_grad():
            for name, tensor in supernet.tensors().items():
                tensor.copy_(self.tensors[name])
        return supernet


def load_ofa_checkpoint(path: str | Path, space: SearchSpace | None = None, *, our_pixels: bool = True) -> OfaCheckpoint:
    """Return a published checkpoint; its space is found by its shapes where none is given.

    With `our_pixels` the stem takes inputs as this package makes them, without as the authors do.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is of another kind, or a tensor is missing, too much, of another shape, or not finite.
    """
    return from_state_dict(read_state_dict(path), space, our_pixels=our_pixels, source=f"file {str(path)!r}")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file that torch wrote, by the names in it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds anything but tensors by name (beside figures of the training, which are left out).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {str(path)!r} was not found; expected a checkpoint that torch wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch raise many kinds for a file that is none of torch's
        told = str(error).split("\n", 1)[0] or "it is empty, or cut off"
        if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to run what is in the file
            told = "it holds other objects than tensors, which are never loaded here as that can run code; or it is damaged"
        raise CheckpointError(f"file {str(path)!r} cannot be read as plain tensors ({told}); expected a checkpoint that torch wrote") from error
    state: Any = content.get("state_dict", content) if isinstance(content, dict) else content
    strange = next((repr(name) for name, value in state.items() if not isinstance(value, Tensor)), "") if isinstance(state, dict) else "no names"
    if not isinstance(state, dict) or strange or not state:
        raise CheckpointError(f"file {str(path)!r} holds {strange or 'nothing'}; expected tensors by name, alone or under 'state_dict'")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def from_state_dict(
    state: Mapping[str, Tensor], space: SearchSpace | None = None, *, our_pixels: bool = True, source: str = "the checkpoint"
) -> OfaCheckpoint:
    """Return a checkpoint of tensors under the authors' names; see `load_ofa_checkpoint`.

    Raises:
        CheckpointError: a tensor is missing, too much, of another shape, or not finite; the text names it as the checkpoint does.
    """
    given = {plain_name(name): name for name in state if not name.endswith(UNUSED)}
    space = _space_of(state, source) if space is None else space
    supernet = Supernet(space)
    largest = {block.name: block for block in space.blocks(space.largest())}
    shapes = {**{name: tuple(tensor.shape) for name, tensor in supernet.tensors().items()}, **dict(_statistics(largest.values()))}
    published = {name: _published_name(space, list(largest), name) for name in shapes}
    missing = [theirs for theirs in published.values() if theirs not in given]
    known = set(published.values())
    strange = [name for plain, name in given.items() if plain not in known]
    if missing or strange:
        what = f"lacks the tensor {missing[0]!r}" if missing else f"holds the tensor {strange[0]!r}, which space {space.name!r} does not have"
        raise CheckpointError(f"{source} {what} ({len(missing)} missing, {len(strange)} too many); expected the tensors of {space.name!r}")
    found = {ours: _checked(state[given[theirs]], shape, given[theirs], source) for (ours, shape), theirs in
             zip(shapes.items(), published.values(), strict=True)}  # fmt: skip
    scale = math.sqrt(BN_EPS / PROXYLESS_EPS) if space.name.startswith("ofa-proxyless") else 1.0
    _scale(found, scale)
    if our_pixels and largest["stem"].in_channels == len(IMAGENET_STD):
        found["stem.conv.weight"] = found["stem.conv.weight"] * (PIXEL_STD / torch.tensor(IMAGENET_STD))[:, None, None]
    statistics = {name: tensor for name, tensor in found.items() if name.endswith(STATISTICS)}
    return OfaCheckpoint(space, {name: tensor for name, tensor in found.items() if name not in statistics}, statistics, scale)


def plain_name(name: str) -> str:
    """Return a checkpoint's name of a tensor with what differs between releases taken out."""
    return REPEATED.sub(r"\1", name.replace(".mobile_inverted_conv.", ".conv."))


def recognised(state: Mapping[str, Tensor], source: str = "the checkpoint") -> str:
    """Return the name of the space whose supernet a checkpoint is, by its stem and its classes.

    Raises:
        CheckpointError: it is none of those published, or does not tell its classes.
    """
    shapes = {plain_name(name): tuple(tensor.shape) for name, tensor in state.items()}
    family = "ofa-resnet50" if "input_stem.0.conv.weight" in shapes else "ofa-mobilenetv3" if "final_expand_layer.conv.weight" in shapes else \
        "ofa-proxyless"  # fmt: skip
    stem = shapes.get("input_stem.2.conv.weight" if family == "ofa-resnet50" else "first_conv.conv.weight", ())
    for name in SPACES:
        space = spaces.space(name)
        own = {block.name: block for block in space.blocks(space.largest())}
        last = own["stem_out"] if is_resnet(space) else own["stem"]
        if name.startswith(family) and stem[:1] == (last.out_channels,):
            classes = shapes.get("classifier.linear.weight", (own["classifier"].out_channels,))[:1]
            if not classes:
                raise CheckpointError(f"tensor 'classifier.linear.weight' of {source} is one number; expected one row a class")
            return name if classes[0] == own["classifier"].out_channels else f"{name}:classes={classes[0]}"
    raise CheckpointError(f"{source} is no supernet of Once-for-All that is known here; expected one of {', '.join(SPACES)}")


def _space_of(state: Mapping[str, Tensor], source: str) -> SearchSpace:
    name = recognised(state, source)
    try:
        return spaces.space(name)
    except ValueError as error:
        raise CheckpointError(f"{source} is of no space: {error}") from None


def _statistics(blocks: Iterable[BlockSpec]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for block in blocks:
        for convolution in block.convolutions():
            if convolution.norm:
                for part in STATISTICS:
                    yield f"{convolution.name}.bn.{part}", (convolution.out_channels,)


def _published_name(space: SearchSpace, places: list[str], name: str) -> str:
    place = next(place for place in places if name.startswith(f"{place}."))
    part, _, tensor = name[len(place) + 1 :].partition(".")
    fixed = RESNET_PLACES if is_resnet(space) else PLACES
    staged = [each for each in places if each.startswith("stage")]
    if place in fixed:
        prefix = fixed[place]
    else:
        number = staged.index(place)
        prefix = f"blocks.{number}" if is_resnet(space) else f"blocks.{number + 1}.conv"
    prefix = ".".join(filter(None, [prefix, PARTS[part]]))
    if place == "classifier" or part in BARE or tensor.startswith("bn."):
        return f"{prefix}.{tensor}"
    return f"{prefix}.{tensor}" if prefix.endswith(".conv") else f"{prefix}.conv.{tensor}"


def _checked(tensor: Tensor, shape: tuple[int, ...], name: str, source: str) -> Tensor:
    expected = shape[:2] if len(shape) == 4 and tensor.ndim == 2 and shape[2:] == (1, 1) else shape  # a linear layer's
    if tuple(tensor.shape) != expected or not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(f"tensor {name!r} of {source} is {kind} of shape {tuple(tensor.shape)}; expected numbers of shape {expected}")
    if not tensor.isfinite().all():
        raise CheckpointError(f"tensor {name!r} of {source} holds infinity or NaN; expected finite numbers, so fetch it again")
    return tensor.detach().float().reshape(shape).clone()


def _scale(tensors: dict[str, Tensor], scale: float) -> None:
    """Multiply what stands before norms, and its statistics; norms of the epsilon scaled by the square then give what they gave."""
    if scale != 1.0:
        for name in [name for name in tensors if f"{name.removesuffix('.weight')}.bn.weight" in tensors]:
            tensors[name] *= scale
            tensors[f"{name.removesuffix('.weight')}.bn.running_mean"] *= scale
            tensors[f"{name.removesuffix('.weight')}.bn.running_var"] *= scale**2
