"""The maps that flow between a network's blocks, with the convolutions that write and read each: who must agree on the order of its channels.

A block whose shortcut is no convolution adds to the map that it reads; any other begins a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from supernets.blocks import BlockSpec

ALONE = ("conv", "conv_bn", "conv_bias", "linear")


@dataclass(frozen=True)
class Stream:
    """A map between blocks: the place of the block that writes it first, its channels, and the convolutions that write and read it."""

    place: str
    channels: int
    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def inner_streams(blocks: Iterable[BlockSpec]) -> list[Stream]:
    """Return the maps of a network of bottlenecks, in order, without its input and its output.

    A network without any, or with blocks that work on a map's channels one by one or in groups, has none here.
    """
    blocks, streams = list(blocks), [Stream("input", 0)]
    if not any(block.operator == "bottleneck" for block in blocks):
        return []
    for block in blocks:
        if block.operator in ("pool", "max_pool"):
            continue
        if block.operator == "bottleneck":
            first, last = "reduce", "restore"
        elif block.operator in ALONE and block.groups == 1 and not block.se_channels:
            first = last = "conv"
        else:
            return []
        shortcut = [f"{block.name}.shortcut"] if block.shortcut in ("conv", "conv_bn") else []
        streams[-1].readers.extend([f"{block.name}.{first}", *shortcut])
        if shortcut or not block.residual:
            streams.append(Stream(block.name, block.out_channels))
        streams[-1].writers.extend([f"{block.name}.{last}", *shortcut])
    return streams[1:-1]
