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
    """Return the tensors with channels in order of importance: inside blocks of elastic width, and between bottlenecks.

    `space` is the whole space, `released` the part of it whose children are trained so far; they compute the same afterwards.
    Left as they are: blocks with a grouped convolution, places that hold blocks of several operators, and the maps between
    bottlenecks, all of them, once a child of which any is narrower is trained.
    """
    result = dict(tensors)
    kept = {place.name: place for place in places(released)}
    for place in places(space):
        widths = _widths(place)
        if len(widths) > 1 and _is_sortable(place):
            block = _largest(place)
            trained = _widths(kept[place.name]) if place.name in kept else []
            _sort_block(result, block, [*trained, (block.mid_channels, block.se_channels)])
    streams = inner_streams(space.blocks(space.largest()))
    if all(_output_widths(kept.get(stream.place)) <= {stream.channels} for stream in streams):
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


def _output_widths(place: Place | None) -> set[int]:
    return set() if place is None else {block.out_channels for block in _blocks(place)}


def _largest(place: Place) -> BlockSpec:
    return max(_blocks(place), key=lambda block: block.mid_channels)


def _is_sortable(place: Place) -> bool:
    """Return whether channels inside all blocks of a place may change places; an mbconv without an expansion has the input's inside."""
    if len({block.operator for block in _blocks(place)}) > 1:
        return False
    block = _largest(place)
    return block.groups == 1 if block.operator == "bottleneck" else block.mid_channels != block.in_channels


def _sort_block(tensors: dict[str, Tensor], block: BlockSpec, released_widths: list[tuple[int, int]]) -> None:
    bounds = sorted({mid for mid, _ in released_widths})
    *writers, reader = ("spatial", "restore") if block.operator == "bottleneck" else ("expand", "depthwise", "project")
    _sort_between(tensors, block.name, bounds, [*_normed(*writers), "se_expand.weight", "se_expand.bias"], [f"{reader}.weight", "se_reduce.weight"])
    if block.operator == "bottleneck":
        _sort_between(tensors, block.name, bounds, _normed("reduce"), ["spatial.weight"])
    if block.se_channels:
        se_bounds = sorted({se for _, se in released_widths})
        _sort_between(tensors, block.name, se_bounds, ["se_reduce.weight", "se_reduce.bias"], ["se_expand.weight"])


def _normed(*parts: str) -> list[str]:
    return [f"{part}.{tensor}" for part in parts for tensor in ("weight", "bn.weight", "bn.bias")]


def _sort_between(tensors: dict[str, Tensor], place: str, bounds: list[int], written: list[str], read: list[str]) -> None:
    """Sort the channels that lie between tensors of a place by what the first that reads them takes of each."""
    names = {0: [f"{place}.{name}" for name in written], 1: [f"{place}.{name}" for name in read]}
    _permute(tensors, _importance(tensors[names[1][0]]), bounds, names)


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
