"""Exported PyTorch programs (`torch.export`, .pt2) of blocks and folded weights: NCHW float32, the batch fixed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from supernets.blocks import BlockSpec
from supernets.export.weights import checked


def torch_model(blocks: Sequence[BlockSpec], weights: Mapping[str, np.ndarray[Any, Any]], batch: int = 1) -> bytes:
    """Return the blocks as the file of an exported program: one input (batch, channels, side, side), one output.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the blocks make no graph, or a tensor is missing or misshapen.
    """
    tensors = checked(blocks, weights, batch)
    try:
        import torch
    except ImportError as error:
        raise ImportError("writing PyTorch programs needs the package 'torch'; install it with pip install 'elastic-latency[train]'") from error
    from supernets.networks.functional import forward, no_norm

    class Folded(torch.nn.Module):
        """The blocks, their tensors held as buffers (names of buffers have no dots)."""

        def __init__(self) -> None:
            super().__init__()
            for name, value in tensors.items():
                self.register_buffer(name.replace(".", "/"), torch.from_numpy(value))

        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            """Return the network's output on a batch."""
            return forward(blocks, x_NCHW, {name.replace("/", "."): tensor for name, tensor in self.named_buffers()}, no_norm)

    sample = torch.zeros(batch, blocks[0].in_channels, blocks[0].input_side, blocks[0].input_side)
    with torch.no_grad():
        program = torch.export.export(Folded().eval(), (sample,))
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
