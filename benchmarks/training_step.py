"""A training step of a supernet against one of the same child as an ordinary torch module: what weight sharing costs.

Space, resolution and batch of the largest published supernet of width 1.0; one sampled child, its kernels cut and transformed. A step is
forward, loss and backward, on one thread of the CPU. The peer is built of `nn.Conv2d`, `nn.BatchNorm2d` and so on with the
child's weights, and both are checked first to give the same loss and, for the stem, to which it comes back through all the others, the same
gradient. Steps are timed alternately, so that whatever else the machine does falls on both; the ratio is the median over rounds of one step
over the other right beside it. The exit status is 1 where it is above the limit.

    python benchmarks/training_step.py [--children 3] [--rounds 15] [--side 224] [--batch 8]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.blocks import BlockSpec, Convolution
from supernets.networks.functional import batch_norm, forward
from supernets.networks.slicing import child_tensors
from supernets.networks.supernet import Supernet
from supernets.spaces import space as search_space

SPACE = "ofa-mobilenetv3-w1.0"
LIMIT = 1.1
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity, "relu": nn.ReLU, "h_swish": nn.Hardswish, "h_sigmoid": nn.Hardsigmoid, "relu6": nn.ReLU6,
}  # fmt: skip


def layer(convolution: Convolution, tensors: dict[str, Tensor]) -> nn.Sequential:
    """Return convolution, norm and activation as modules, with the child's weights."""
    c, name = convolution, convolution.name
    conv = nn.Conv2d(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, groups=c.groups, bias=c.bias)
    conv.weight.data.copy_(tensors[f"{name}.weight"])
    if conv.bias is not None:
        conv.bias.data.copy_(tensors[f"{name}.bias"])
    parts: list[nn.Module] = [conv]
    if c.norm:
        norm = nn.BatchNorm2d(c.out_channels)
        norm.weight.data.copy_(tensors[f"{name}.bn.weight"])
        norm.bias.data.copy_(tensors[f"{name}.bn.bias"])
        parts.append(norm)
    return nn.Sequential(*parts, *([] if c.activation == "none" else [ACTIVATIONS[c.activation]()]))


class Mobile(nn.Module):
    """A mobile block: expand, depthwise, squeeze-and-excitation, project, sum."""

    def __init__(self, block: BlockSpec, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        parts = {c.name.rpartition(".")[2]: layer(c, tensors) for c in block.convolutions()}
        self.before = nn.Sequential(*(parts[name] for name in ("expand", "depthwise") if name in parts))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), parts["se_reduce"], parts["se_expand"]) if "se_reduce" in parts else None
        self.project, self.residual = parts["project"], block.residual

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's result."""
        y = self.before(x)
        y = y if self.gate is None else y * self.gate(y)
        y = self.project(y)
        return x + y if self.residual else y


def plain(blocks: list[BlockSpec], tensors: dict[str, Tensor]) -> nn.Sequential:
    """Return the child as an ordinary module."""
    modules: list[nn.Module] = []
    for block in blocks:
        if block.operator == "mbconv":
            modules.append(Mobile(block, tensors))
        elif block.operator == "pool":
            modules.append(nn.AdaptiveAvgPool2d(1))
        elif block.operator == "linear":
            linear = nn.Linear(block.in_channels, block.out_channels)
            linear.weight.data.copy_(tensors[f"{block.name}.conv.weight"].flatten(1))
            linear.bias.data.copy_(tensors[f"{block.name}.conv.bias"])
            modules += [nn.Flatten(), linear]
        else:
            modules += [layer(c, tensors) for c in block.convolutions()]
    return nn.Sequential(*modules).train()


def seconds(step: Callable[[], Any]) -> float:
    """Return how much of the processor's time a call takes, whatever else the machine does."""
    began = time.process_time()
    step()
    return time.process_time() - began


def measured(supernet: Supernet, seed: int, side: int, batch: int, rounds: int) -> tuple[float, float]:
    """Return the median seconds of the supernet's step, and the median ratio to the plain network's."""
    space = supernet.space
    architecture = space.architecture({**space.sample(np.random.default_rng(seed)).values, "resolution": side})
    blocks = space.blocks(architecture)
    network = plain(blocks, {name: tensor.detach() for name, tensor in supernet.child(architecture).items()})
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, 3, side, side), generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), generator=generator)

    def shared_step() -> Tensor:
        supernet.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(blocks, x, child_tensors(blocks, supernet.tensors()), batch_norm), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def plain_step() -> Tensor:
        network.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    ours, theirs = float(shared_step().detach()), float(plain_step().detach())
    first = (supernet.tensors()["stem.conv.weight"].grad, next(network.parameters()).grad)
    if abs(ours - theirs) > 1e-4 * abs(theirs) or first[0] is None or first[1] is None or not torch.allclose(*first, rtol=1e-2, atol=1e-4):
        raise SystemExit(f"the two networks differ: losses {ours} and {theirs}")
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = [seconds(step) for step in ((shared_step, plain_step) if number % 2 else (plain_step, shared_step))]
        times.append((pair[0], pair[1]) if number % 2 else (pair[1], pair[0]))
    return statistics.median(a for a, _ in times), statistics.median(a / b for a, b in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=3, help="sampled children, each measured on its own")
    parser.add_argument("--rounds", type=int, default=15, help="alternate steps of each")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    supernet = Supernet(search_space(SPACE))
    ratios = []
    for seed in range(options.children):
        step_s, ratio = measured(supernet, seed, options.side, options.batch, options.rounds)
        ratios.append(ratio)
        print(f"  child {seed}: {1000 * step_s:.0f} ms a step of the supernet, {ratio:.3f} times the plain network's", flush=True)
    ratio = statistics.median(ratios)
    print(f"training step, {SPACE}, {options.side} px, batch {options.batch}, one thread: {ratio:.3f} times the plain network's (limit {LIMIT})")
    if ratio > LIMIT:
        raise SystemExit(f"a step of the supernet takes more than {LIMIT} times as long as the plain network's")


if __name__ == "__main__":
    main()
