"""Channel sorting: a permutation of a supernet's tensors that puts the most important channels first, so that narrow
children, which keep the leading channels, keep the best ones (Once-for-All, section 3.3).

Importance of an inner channel of an `mbconv` block is the L1 norm of the project convolution's weights that read it; of
an inner channel of its squeeze-and-excitation, of the `se_expand` weights that read it. A `bottleneck` has two maps of its inner width,
each sorted by the convolution that reads it. The block computes the same after the permutation. Where children of smaller widths are
trained already, channels move only between neighbouring widths (inside a *group*), so those children compute the same as well.
Once-for-All itself keeps no groups in the squeeze-and-excitation, which changes its trained children there.

The maps between bottlenecks are sorted by all convolutions that read them, as long as no child with a narrower one is trained.
Once-for-All leaves those in the order they have.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.networks.functional import Tensors
from supernets.networks.streams import Stream, inner_streams
from supernets.places import Place, places
from supernets.space import SearchSpace


def sorted_channels(tensors: Tensors, space: SearchSpace, released: SearchSpace) -> dict[str, Tensor]:
    """Return the tensors with the inner channels of every block of elastic width, and those between bottlenecks, in order of importance.

    `space` is the whole space, `released` the part of it whose children are trained so far.
    """
    result = dict(tensors)
    kept = {place.name: place for place in places(released)}
    for place in places(space):
        widths = _widths(place)
        block = _largest(place)
        if len(widths) > 1 and (block.operator == "bottleneck" or block.mid_channels != block.in_channels):
            # an mbconv without an expansion has the input's channels inside
            trained = _widths(kept[place.name]) if place.name in kept else []
            sort = _sort_bottleneck if block.operator == "bottleneck" else _sort_block
            sort(result, block, [*trained, (block.mid_channels, block.se_channels)])
    streams = inner_streams(space.blocks(space.largest()))
    if all(stream.place in kept and _output_widths(kept[stream.place]) == {stream.channels} for stream in streams):
        for stream in streams:
            _sort_stream(result, stream)
    return result


def descending_in_groups(importance: Tensor, bounds: Iterable[int]) -> Tensor:
    """Return the positions that sort `importance` downwards inside each group; `bounds` are the ends of the groups, rising."""
    groups, start = [], 0
    for end in bounds:
        groups.append(start + torch.sort(importance[start:end], descending=True, stable=True).indices)
        start = end
    return torch.cat(groups)


def _blocks(place: Place) -> list[BlockSpec]:
    return [block for block in place.blocks if block is not None]


def _widths(place: Place) -> list[tuple[int, int]]:
    """Return the different (mid, squeeze-and-excitation) widths of a place, narrowest first."""
    return sorted({(block.mid_channels, block.se_channels) for block in _blocks(place) if block.operator in ("mbconv", "bottleneck")})


def _output_widths(place: Place) -> set[int]:
    return {block.out_channels for block in _blocks(place)}


def _largest(place: Place) -> BlockSpec:
    return max(_blocks(place), key=lambda block: block.mid_channels)


def _sort_block(tensors: dict[str, Tensor], block: BlockSpec, released_widths: list[tuple[int, int]]) -> None:
    mid_bounds = sorted({mid for mid, _ in released_widths})
    _permute(tensors, _importance(tensors[f"{block.name}.project.weight"]), mid_bounds, {
        0: [f"{block.name}.{part}" for part in ("expand.weight", "expand.bn.weight", "expand.bn.bias", "depthwise.weight", "depthwise.bn.weight",
                                                "depthwise.bn.bias", "se_expand.weight", "se_expand.bias")],
        1: [f"{block.name}.project.weight", f"{block.name}.se_reduce.weight"],
    })  # fmt: skip
    if block.se_channels:
        se_bounds = sorted({se for _, se in released_widths})
        _permute(tensors, _importance(tensors[f"{block.name}.se_expand.weight"]), se_bounds, {
            0: [f"{block.name}.se_reduce.weight", f"{block.name}.se_reduce.bias"],
            1: [f"{block.name}.se_expand.weight"],
        })  # fmt: skip


def _sort_bottleneck(tensors: dict[str, Tensor], block: BlockSpec, released_widths: list[tuple[int, int]]) -> None:
    bounds = sorted({mid for mid, _ in released_widths})
    for writes, reads in (("spatial", "restore"), ("reduce", "spatial")):
        _permute(tensors, _importance(tensors[f"{block.name}.{reads}.weight"]), bounds, {
            0: [f"{block.name}.{writes}.{tensor}" for tensor in ("weight", "bn.weight", "bn.bias")], 1: [f"{block.name}.{reads}.weight"],
        })  # fmt: skip


def _sort_stream(tensors: dict[str, Tensor], stream: Stream) -> None:
    importance = torch.stack([_importance(tensors[f"{reader}.weight"]) for reader in stream.readers]).sum(0)
    written = [f"{writer}.{tensor}" for writer in stream.writers for tensor in ("weight", "bias", "bn.weight", "bn.bias")]
    _permute(tensors, importance, [stream.channels], {0: written, 1: [f"{reader}.weight" for reader in stream.readers]})


def _importance(weight: Tensor) -> Tensor:
    """Return the L1 norm of what is read from each input channel of a convolution (O, I, k, k): (I,)."""
    return weight.abs().sum((0, 2, 3))


def _permute(tensors: dict[str, Tensor], importance: Tensor, bounds: list[int], names_by_axis: dict[int, list[str]]) -> None:
    order = descending_in_groups(importance, bounds)
    for axis, names in names_by_axis.items():
        for name in names:
            if name in tensors:
                tensors[name] = tensors[name].index_select(axis, order)
