"""Branches of a convolution while it is trained (RepNAS, Zhang et al., 2021; DBB, Ding et al., 2021): which, and their tensors.

A convolution K x K is the sum of the branches kept, each with norms of its own (`branched`); `merging` makes one convolution of them.
Its weight is the master kernel: branches with a smaller kernel use its centre, except where the tensors hold a weight of
theirs. Tensors of branch B of convolution N: `N.B.weight`, `N.B.bn.*`, and `N.B.inner.*` of a 1x1 convolution before the
second part; the K x K branch has the names of the plain convolution with a norm, `N.weight` and `N.bn.*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from supernets.blocks import BlockSpec, Convolution
from supernets.counts import block_tensors
from supernets.networks.functional import Tensors
from supernets.networks.slicing import centre, cut_kernel, refuse_smaller
from supernets.space import Architecture, SearchSpace
from supernets.spaces.repnas import BRANCHES, COLUMN, KXK, POINT, POINT_AVERAGE, POINT_KXK, ROW

Kept: TypeAlias = Mapping[str, tuple[str, ...]]  # a convolution's name → its branches; convolutions not named are plain

_BRANCHED_PARTS = ("conv", "depthwise", "spatial")  # the one convolution of a block that has branches


def has_branches(space: SearchSpace) -> bool:
    """Return whether blocks of a space have branches to choose: then a choice of 0 or 1 for each, `<block>.<branch>`."""
    return any(choice.kind in BRANCHES for choice in space.choices)


def possible_branches(convolution: Convolution) -> tuple[str, ...]:
    """Return the branches a convolution can have: `skip` only where it changes neither side nor width, none for a 1x1 convolution."""
    if convolution.kernel_size == 1:
        return ()
    same = convolution.stride == 1 and convolution.in_channels == convolution.out_channels
    return BRANCHES if same else BRANCHES[:-1]


def branched_convolution(block: BlockSpec) -> Convolution:
    """Return the convolution of a block that branches are branches of.

    Raises:
        ValueError: the block has none.
    """
    for convolution in block.convolutions():
        if convolution.name.rpartition(".")[2] in _BRANCHED_PARTS and possible_branches(convolution):
            return convolution
    raise ValueError(f"block {block.name!r} ({block.key}) has no convolution of a kernel above 1; expected one, since only that can have branches")


def kept_branches(blocks: Iterable[BlockSpec], architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Return the branches an architecture keeps, of every block that has a choice a branch; K x K where it keeps none."""
    kept: dict[str, tuple[str, ...]] = {}
    for block in blocks:
        values = {branch: architecture.values.get(f"{block.name}.{branch}") for branch in BRANCHES}
        if any(value is not None for value in values.values()):
            convolution = branched_convolution(block)
            kept[convolution.name] = tuple(branch for branch in possible_branches(convolution) if values[branch]) or (KXK,)
    return kept


def is_depthwise(convolution: Convolution) -> bool:
    """Return whether every channel is convolved alone: then 1x1 followed by averaging is the averaging alone."""
    return convolution.groups == convolution.in_channels == convolution.out_channels


def norm_name(convolution: Convolution, branch: str) -> str:
    """Return the prefix of the `bn` that a branch ends with."""
    return convolution.name if branch == KXK else f"{convolution.name}.{branch}"


def inner_name(convolution: Convolution, branch: str) -> str:
    """Return the prefix of the weight and the norm of a branch's 1x1 convolution before its second part."""
    return f"{convolution.name}.{branch}.inner"


def branch_shapes(convolution: Convolution, branches: Iterable[str], own_weights: bool = False) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every learned tensor of a convolution with these branches; the master kernel is always one of them."""
    out, group_in, size = convolution.out_channels, convolution.in_channels // convolution.groups, convolution.kernel_size
    inner = convolution.in_channels if own_weights else out  # the master kernel's centre makes as many channels as the convolution
    point = (out, group_in, 1, 1)
    weights: dict[str, dict[str, tuple[int, ...]]] = {
        POINT: {".weight": point}, ROW: {".weight": (out, group_in, 1, size)}, COLUMN: {".weight": (out, group_in, size, 1)},
        POINT_KXK: {".inner.weight": (inner, group_in, 1, 1)}, POINT_AVERAGE: {} if is_depthwise(convolution) else {".inner.weight": point},
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {f"{convolution.name}.weight": convolution.weight_shape}
    for branch in branches:
        prefix = f"{convolution.name}.{branch}"
        if own_weights:
            shapes.update({prefix + suffix: shape for suffix, shape in weights.get(branch, {}).items()})
        if branch == POINT_KXK:
            shapes[f"{prefix}.weight"] = (out, inner // convolution.groups, size, size)
    for name, channels in norm_channels(convolution, branches, own_weights).items():
        shapes[f"{name}.bn.weight"] = shapes[f"{name}.bn.bias"] = (channels,)
    return shapes


def norm_channels(convolution: Convolution, branches: Iterable[str], own_weights: bool = False) -> dict[str, int]:
    """Return prefix → channels of every norm of these branches."""
    channels: dict[str, int] = {}
    for branch in branches:
        if branch == POINT_KXK:
            channels[inner_name(convolution, branch)] = convolution.in_channels if own_weights else convolution.out_channels
        elif branch == POINT_AVERAGE and not is_depthwise(convolution):
            channels[inner_name(convolution, branch)] = convolution.out_channels
        channels[norm_name(convolution, branch)] = convolution.out_channels
    return channels


def branched_block_tensors(block: BlockSpec, kept: Kept, own_weights: bool = False) -> dict[str, tuple[int, ...]]:
    """Return name → shape of every learned tensor of a block, its convolutions having the branches kept."""
    shapes = block_tensors(block)
    for convolution in block.convolutions():
        if convolution.name in kept:
            _check(convolution, kept[convolution.name])
            shapes = {name: shape for name, shape in shapes.items() if not name.startswith(f"{convolution.name}.")}
            shapes.update(branch_shapes(convolution, kept[convolution.name], own_weights))
    return shapes


def _check(convolution: Convolution, branches: Sequence[str]) -> None:
    strange = [branch for branch in branches if branch not in possible_branches(convolution)]
    if strange or not branches:
        expected = f"one or more of {', '.join(possible_branches(convolution)) or 'no branch, since its kernel is 1'}"
        raise ValueError(f"convolution {convolution.name!r} is given the branches {list(branches)}; expected {expected}")


def branch_weight(convolution: Convolution, branch: str, tensors: Tensors) -> Tensor:
    """Return the weight that a branch of one convolution has, or the 1x1 one of a branch that begins with it: its own, or the master's centre."""
    size = convolution.kernel_size
    height, width = {KXK: (size, size), ROW: (1, size), COLUMN: (size, 1)}.get(branch, (1, 1))
    own = inner_name(convolution, branch) if branch in (POINT_KXK, POINT_AVERAGE) else f"{convolution.name}.{branch}"
    weight = tensors.get(f"{own}.weight")
    return centre(tensors[f"{convolution.name}.weight"], height, width) if weight is None else weight


def own_weights(convolution: Convolution, tensors: Tensors) -> bool:
    """Return whether the tensors hold weights of branches that would otherwise be crops of the master kernel."""
    branches = possible_branches(convolution)
    return not (set(branch_shapes(convolution, branches, True)) - set(branch_shapes(convolution, branches))).isdisjoint(tensors)


def branched_slices(blocks: Iterable[BlockSpec], tensors: Tensors, kept: Kept) -> dict[str, Tensor]:
    """Return the learned tensors of the network of these blocks with these branches, as differentiable slices of a supernet's.

    The slicing rule is the plain supernet's: leading channels and the middle of the kernel, through its matrices where it has any.

    Raises:
        KeyError: the supernet has no tensor of a name that is needed.
        ValueError: a branch is kept that its convolution cannot have, or none; or a tensor is smaller than the blocks need.
    """
    sliced: dict[str, Tensor] = {}
    for block in blocks:
        own = any(own_weights(convolution, tensors) for convolution in block.convolutions() if convolution.name in kept)
        shapes = branched_block_tensors(block, kept, own)
        sliced.update({name: _cut(tensors[name], name, shape, tensors) for name, shape in shapes.items()})
    return sliced


def _cut(tensor: Tensor, name: str, shape: tuple[int, ...], tensors: Tensors) -> Tensor:
    refuse_smaller(name, tensor, shape)
    tensor = tensor[tuple(slice(length) for length in shape[:2])]
    if len(shape) < 4:
        return tensor
    square = tensor.shape[-1] == tensor.shape[-2]
    return cut_kernel(tensor, shape[-1], name.removesuffix(".weight"), tensors) if square else centre(tensor, shape[2], shape[3])
