"""A start from which very deep networks learn at full learning rate: every residual block begins as its shortcut.

The scale of the last norm of each residual branch is zero (BigNAS, Yu et al., ECCV 2020, section 3.3), so the sum adds
nothing to the shortcut until that scale has learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.places import places
from supernets.space import SearchSpace

LAST_PART = {"mbconv": "project", "bottleneck": "restore", "conv_bn": "conv"}  # the operator's last convolution before the sum


def last_norm_scale(block: BlockSpec) -> str | None:
    """Return the name of the scale before a block's residual sum; None where the block has no sum, or no norm before it."""
    if not block.residual or block.operator not in LAST_PART:
        return None
    return f"{block.name}.{LAST_PART[block.operator]}.bn.weight"


def residual_scales(space: SearchSpace) -> Iterator[str]:
    """Yield the scales before residual sums, of the places where every network of the space has one: others would begin as nothing at all."""
    sides = [choice.name for choice in space.choices if choice.name == "resolution"]
    one_side = space.restrict({name: (space.choices[space.position[name]].allowed[-1],) for name in sides})
    for place in places(one_side):
        names = {last_norm_scale(block) for block in place.blocks if block is not None}
        if len(names) == 1 and (name := names.pop()) is not None:
            yield name


@torch.no_grad()
def begin_as_shortcuts(tensors: Mapping[str, Tensor], space: SearchSpace) -> None:
    """Set the scales before residual sums to zero, in place."""
    for name in residual_scales(space):
        tensors[name].zero_()
