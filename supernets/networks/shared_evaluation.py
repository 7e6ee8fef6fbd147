"""Many children of one supernet judged on the same images, each with norms calibrated for it: what children share is computed once.

A block's norm statistics depend on the calibration images and the blocks before it, so children that begin alike share
the activations of both sets of images up to the block where they part. They are walked in tree order, and activations
are kept only where later children branch off. Sharing changes no bit: every child's logits are those of `calibrate`,
`fold` and `forward(..., no_norm)` on the same batches in channels-last memory, whichever children are walked with it.

Everything is computed and kept where the supernet's tensors are. Dimensions: N images, C channels, H = W side. Memory: a block's output for
every image, once for each kept depth (at most 16 kB an image and depth in the space for small images, 1.2 MB behind the stem at 224 pixels),
or as much as is allowed; of a child that is alone at its resolution, a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.blocks import Convolution
from supernets.networks.calibration import NormStatistics
from supernets.networks.functional import Norm, Tensors, TorchOperations, channels_last, fold, no_norm
from supernets.networks.prefix_tree import Path, Step, branch_depths, in_tree_order, path, shared_steps
from supernets.networks.slicing import child_tensors
from supernets.space import Architecture, SearchSpace
from supernets.walk import run_block

Hits: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
BatchesAt: TypeAlias = Callable[[int], Iterable[Tensor]]  # side in pixels → network inputs, batches (N, C, side, side)
_Batches: TypeAlias = tuple[Iterable[Tensor], Iterable[Tensor]]  # calibration, judged
FLOAT_BYTES = 4

_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "relu6": lambda x: F.relu6(x, inplace=True),
    "h_swish": lambda x: F.hardswish(x, inplace=True),
    "h_sigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "swish": lambda x: F.silu(x, inplace=True),
    "sigmoid": torch.sigmoid_,
}


@dataclass(frozen=True)
class EvaluationImages:
    """What children are calibrated and judged on; `labels` (n_images,) are of the judged images, in their order.

    The batches are part of the protocol: each calibration batch is normalised with its own statistics.
    """

    calibration_at: BatchesAt
    judged_at: BatchesAt
    labels: Tensor


@dataclass(frozen=True)
class _Activations:
    """The maps of all calibration batches and all judged batches behind the same leading blocks; never written to."""

    calibration: list[Tensor] = field(default_factory=list)
    judged: list[Tensor] = field(default_factory=list)

    @property
    def batches(self) -> _Batches:
        """Both."""
        return self.calibration, self.judged


class SharedEvaluation:
    """Evaluates children of a supernet's `tensors` on the same images, on the device of the tensors.

    `most_bytes` an image (all by default) are kept of what children share: with less, inputs are made anew as they are used, and maps
    that do not fit are computed again, the largest ones first. That takes time, and changes no result.
    """

    def __init__(self, space: SearchSpace, tensors: Tensors, images: EvaluationImages, most_bytes: float = math.inf) -> None:
        self._space = space
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._device = next(iter(self._tensors.values())).device
        self._images = images
        self._most_bytes = most_bytes
        self._slices: dict[Step, dict[str, Tensor]] = {}
        self._inputs: tuple[int, _Batches] | None = None  # of the side that several children began at last

    def hits(self, architectures: Iterable[Architecture]) -> Iterator[tuple[Architecture, Hits]]:
        """Yield every different architecture, in tree order, with which images it classifies rightly, shape (n_images,).

        Raises:
            ValueError: there are no calibration or no judged images, or not as many labels as judged images.
        """
        for architecture, logits in self.logits(architectures):
            if len(logits) != len(self._images.labels):
                raise ValueError(f"there are {len(self._images.labels)} labels for {len(logits)} judged images; expected one for each")
            yield architecture, (logits.argmax(1).cpu() == self._images.labels).numpy()

    def logits(self, architectures: Iterable[Architecture]) -> Iterator[tuple[Architecture, Tensor]]:
        """Yield every different architecture, in tree order, with its logits of the judged images, shape (n_images, classes)."""
        ordered = in_tree_order(self._space, architectures)
        paths = [path(self._space, architecture) for architecture in ordered]
        shared = shared_steps(paths)
        kept: dict[int, _Activations] = {}  # depth → activations behind that many of the current path's steps
        for index, architecture in enumerate(ordered):
            start = max(kept, default=0)
            begin = kept[start].batches if kept else self._inputs_of(paths, index)
            keep = self._fitting(paths[index], branch_depths(shared, index, start), kept)
            logits, found = self._walk(paths[index], start, begin, keep)
            kept = {depth: maps for depth, maps in {**kept, **found}.items() if depth <= shared[index]}
            yield architecture, logits

    def _inputs_of(self, paths: Sequence[Path], index: int) -> _Batches:
        """Return the inputs of a path; they are held in memory if the next path has the same, else made as they are used."""
        side = _side(paths[index])
        if self._inputs is None or self._inputs[0] != side:
            self._inputs = None
            self._slices.clear()  # steps at other sides are other steps
            made = tuple(map(self._put, batches_at(side)) for batches_at in (self._images.calibration_at, self._images.judged_at))
            if index + 1 == len(paths) or _side(paths[index + 1]) != side or self._most_bytes < math.inf:
                return made[0], made[1]
            self._inputs = side, (list(made[0]), list(made[1]))
        return self._inputs[1]

    def _put(self, batch: Tensor) -> Tensor:
        return channels_last(batch.to(self._device))

    def _fitting(self, path: Path, depths: set[int], kept: Iterable[int]) -> set[int]:
        """Return the depths whose maps fit beside those kept, from the deepest up: the smallest maps, and the most work spared."""
        left, fitting = self._most_bytes - sum(_map_bytes(path, depth) for depth in kept), set()
        for depth in sorted(depths, reverse=True):
            if (size := _map_bytes(path, depth)) <= left:
                fitting.add(depth)
                left -= size
        return fitting

    @torch.inference_mode()
    def _walk(self, path: Path, start: int, begin: _Batches, keep: set[int]) -> tuple[Tensor, dict[int, _Activations]]:
        """Return the logits, and the activations at the depths to keep, of a path whose first `start` steps are behind `begin`."""
        calibration, judged = begin
        found = {depth: _Activations() for depth in keep}
        slices = {name: tensor for step in path[start:] for name, tensor in self._slice(step).items()}
        statistics, images = NormStatistics(), 0
        calibrated = max([start, *keep, *(depth for depth, (_, block) in enumerate(path, 1) if any(c.norm for c in block.convolutions()))])
        operations = _InPlaceOperations(slices, statistics.norm)
        for batch in calibration:
            _run(path[:calibrated], start, batch, operations, {depth: maps.calibration for depth, maps in found.items()})
            images += len(batch)
        _refuse_none("calibration", images, path)
        folded = fold({**slices, **statistics.averages(images)}, [block for _, block in path[start:]])
        operations = _InPlaceOperations(folded, no_norm)
        outputs = [_run(path, start, batch, operations, {depth: maps.judged for depth, maps in found.items()}) for batch in judged]
        _refuse_none("judged", len(outputs), path)
        return torch.cat(outputs), found

    def _slice(self, step: Step) -> dict[str, Tensor]:
        if step not in self._slices:
            self._slices[step] = child_tensors([step[1]], self._tensors)
        return self._slices[step]


def _side(path: Path) -> int:
    """Return the side of a path's inputs in pixels."""
    return path[0][1].input_side


def _map_bytes(path: Path, depth: int) -> int:
    """Return the bytes of one image's map behind that many of a path's steps."""
    block = path[depth - 1][1]
    return FLOAT_BYTES * block.out_channels * block.output_side**2


def _refuse_none(what: str, count: int, path: Path) -> None:
    if not count:
        raise ValueError(f"there are no {what} images of side {_side(path)}; expected at least one batch")


def _run(path: Path, start: int, x: Tensor, operations: TorchOperations, keep: Mapping[int, list[Tensor]]) -> Tensor:
    """Return a batch's result behind the path's steps from `start` on, its maps at the depths to keep appended to their lists."""
    for depth, (_, block) in enumerate(path[start:], start + 1):
        x = run_block(block, x, operations)
        if depth in keep:
            keep[depth].append(x)
    return x


class _InPlaceOperations(TorchOperations):
    """The same operations, written over a convolution's fresh result where they can be; a block's input is never written to."""

    def __init__(self, tensors: Tensors, norm: Norm) -> None:
        super().__init__(tensors, norm)

    def convolution(self, x: Tensor, convolution: Convolution) -> Tensor:
        """Convolve, add the bias if there is one, normalise if the convolution has a norm, activate in place."""
        weight, bias = self._tensors[f"{convolution.name}.weight"], self._tensors.get(f"{convolution.name}.bias")
        x = F.conv2d(x, weight, bias, convolution.stride, convolution.padding, 1, convolution.groups)
        if convolution.norm:
            x = self._norm(x, convolution.name, self._tensors)
        return _IN_PLACE[convolution.activation](x)

    def multiply(self, x: Tensor, gate: Tensor) -> Tensor:
        """Scale the channels in place."""
        return x.mul_(gate)

    def add(self, x: Tensor, y: Tensor, activation: str) -> Tensor:
        """Sum two maps into the second, the fresh one, and activate in place."""
        return _IN_PLACE[activation](y.add_(x))
