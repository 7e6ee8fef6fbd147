"""Training by several processes that `torchrun` started: each takes its part of every batch, all make the same step.

Children, crops and learning rates follow from (seed, step), so all processes draw the same without a word. Gradients, those
of gates too, are averaged once a step, after the last child; norms see the whole batch (their sums go round), so the number
of processes changes results by rounding alone. The first process validates and writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from supernets.networks.functional import BN_EPS, Norm, Tensors, batch_norm

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what torchrun says in the environment


@dataclass(frozen=True)
class Group:
    """The processes of one training, of which this one is number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that validates and writes."""
        return self.rank == 0

    @property
    def norm(self) -> Norm:
        """How norms normalise in training: with the statistics of the whole batch."""
        return batch_norm if self.size == 1 else synchronised_batch_norm

    def part(self, batch_size: int) -> slice:
        """Return which rows of a batch are this process's.

        Raises:
            ValueError: the batch cannot be shared out equally.
        """
        if batch_size % self.size:
            raise ValueError(f"a batch of {batch_size} cannot be shared out equally to {self.size} processes; change batch size or --nproc-per-node")
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    @torch.no_grad()
    def average_gradients(self, tensors: Iterable[Tensor], device: torch.device | str) -> None:
        """Put the mean over all processes in the place of each gradient; all processes have gradients of the same tensors.

        They are summed on the processes' `device`, which is the only one that `nccl` can sum on; the gradients may be on another.
        """
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        if self.size > 1 and gradients:
            together = torch.cat([gradient.flatten() for gradient in gradients]).to(device)
            dist.all_reduce(together)
            mean = together.div_(self.size).to(gradients[0].device)
            parts = torch.split(mean, [gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])

    def mean(self, value: float, device: torch.device | str = "cpu") -> float:
        """Return the mean of a number over all processes."""
        if self.size == 1:
            return value
        together = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(together)
        return float(together) / self.size

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str = "cpu") -> Iterator[tuple[Group, str]]:
    """Join the processes that torchrun started, if it did; yields the group and this process's own device (`cuda` becomes one of them)."""
    if not all(name in os.environ for name in TORCHRUN) or int(os.environ["WORLD_SIZE"]) == 1:
        yield Group(), device
        return
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; each one's loss depends on it, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def synchronised_batch_norm(x_NCHW: Tensor, name: str, tensors: Tensors) -> Tensor:
    """Normalise with mean and biased variance over the parts of all processes, which are of one size (training; nothing is tracked)."""
    x = x_NCHW if x_NCHW.dtype in (torch.float32, torch.float64) else x_NCHW.float()
    size = dist.get_world_size()
    mean = _SumOverProcesses.apply(x.mean((0, 2, 3))) / size  # type: ignore[no-untyped-call]
    centred = x - mean[:, None, None]
    variance = _SumOverProcesses.apply(centred.square().mean((0, 2, 3))) / size  # type: ignore[no-untyped-call]
    scale = tensors[f"{name}.bn.weight"] * torch.rsqrt(variance + BN_EPS)
    return torch.addcmul(tensors[f"{name}.bn.bias"][:, None, None], centred, scale[:, None, None]).to(x_NCHW.dtype)
