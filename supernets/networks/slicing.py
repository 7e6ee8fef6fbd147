"""The slicing rule, which is weight sharing: a child's tensor is the supernet's tensor of the same name, cut to its
leading channels and to the centre of its kernel.

Once-for-All (Cai et al., 2020, section 3) adds learned kernel-transform matrices: the cut kernel, flattened, is
multiplied by a k² x k² matrix, one step after another (7 to 5, then 5 to 3). Where a supernet has them they apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from supernets.blocks import BlockSpec
from supernets.counts import block_tensors
from supernets.networks.functional import Tensors


def matrix_name(convolution_name: str, from_size: int, to_size: int) -> str:
    """Return the name of the kernel-transform matrix of one step."""
    return f"{convolution_name}.{from_size}to{to_size}_matrix"


def centre(weight: Tensor, height: int, width: int) -> Tensor:
    """Return the middle `height` x `width` window of a weight (O, I, K, K)."""
    top, left = weight.shape[-2] // 2 - height // 2, weight.shape[-1] // 2 - width // 2
    return weight[..., top : top + height, left : left + width]


def cut_kernel(weight: Tensor, kernel_size: int, name: str, tensors: Tensors) -> Tensor:
    """Return the weight with a smaller kernel: its centre, through the transform matrices the supernet has for it."""
    for size in range(weight.shape[-1] - 2, kernel_size - 1, -2):
        weight = centre(weight, size, size)
        matrix = tensors.get(matrix_name(name, size + 2, size))
        if matrix is not None:
            weight = (weight.flatten(2) @ matrix.T).view(weight.shape)
    return weight


def child_tensors(blocks: Iterable[BlockSpec], tensors: Tensors) -> dict[str, Tensor]:
    """Return the learned tensors of the network of these blocks, as differentiable slices of a supernet's `tensors`.

    Raises:
        KeyError: the supernet has no tensor of a name the blocks need.
        ValueError: its tensor is smaller than the blocks need.
    """
    return dict(item for block in blocks for item in _block_slices(block, tensors))


def _block_slices(block: BlockSpec, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, shape in block_tensors(block).items():
        tensor = tensors[name]
        refuse_smaller(name, tensor, shape)
        for side in range(min(2, len(shape))):
            if tensor.shape[side] != shape[side]:  # a slice of the whole costs a copy of it in the backward pass
                tensor = tensor.narrow(side, 0, shape[side])
        yield name, cut_kernel(tensor, shape[-1], name.removesuffix(".weight"), tensors) if len(shape) == 4 else tensor


def refuse_smaller(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor that a slice of this shape cannot be cut from.

    Raises:
        ValueError: a side of it is shorter.
    """
    if any(have < need for have, need in zip(tensor.shape, shape, strict=True)):
        raise ValueError(f"tensor {name!r} of the supernet has shape {tuple(tensor.shape)}; expected at least {shape}: use its space's weights")
