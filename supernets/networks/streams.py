"""The maps that flow between a network's blocks, with the convolutions that write and read each: who must agree on the order of its channels.

A block whose shortcut is no convolution adds to the map that it reads; any other begins a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from supernets.blocks import BlockSpec

MIXING = ("bottleneck", "conv", "conv_bn", "conv_bias", "linear")  # operators that begin and end with a convolution of all channels
BESIDE = ("se_reduce", "se_expand", "shortcut")  # parts of a block that the map does not pass on its way through


@dataclass(frozen=True)
class Stream:
    """A map between blocks: the place of the block that writes it first, its channels, and the convolutions that write and read it."""

    place: str
    channels: int
    writers: tuple[str, ...]
    readers: tuple[str, ...]


def inner_streams(blocks: Iterable[BlockSpec]) -> list[Stream]:
    """Return the maps of a network of bottlenecks, in order, without its input and its output.

    A network without any, or with blocks that work on a map's channels one by one or in groups, has none here.
    """
    blocks = [block for block in blocks if block.operator not in ("pool", "max_pool")]
    if not any(block.operator == "bottleneck" for block in blocks) or not all(_mixes(block) for block in blocks):
        return []
    streams = []
    for start, end in pairwise(at for at, block in enumerate(blocks) if not block.residual or _shortcut(block)):
        writers = (*(_way(block)[-1] for block in blocks[start:end]), *_shortcut(blocks[start]))
        readers = (*(_way(block)[0] for block in blocks[start + 1 : end + 1]), *_shortcut(blocks[end]))
        streams.append(Stream(blocks[start].name, blocks[start].out_channels, writers, readers))
    return streams


def _mixes(block: BlockSpec) -> bool:
    """Return whether every channel that a block reads or writes may be any other; a bottleneck's groups and gates are inside."""
    return block.operator in MIXING and (block.operator == "bottleneck" or (block.groups == 1 and not block.se_channels))


def _way(block: BlockSpec) -> list[str]:
    """Return the convolutions that a map passes in a block."""
    return [convolution.name for convolution in block.convolutions() if convolution.name.rpartition(".")[2] not in BESIDE]


def _shortcut(block: BlockSpec) -> list[str]:
    return [convolution.name for convolution in block.convolutions() if convolution.name.endswith(".shortcut")]
