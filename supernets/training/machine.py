"""On what a training runs: device, precision, processes. It changes how fast the same steps are, and rounding, nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from supernets.training.distributed import Group


@dataclass(frozen=True)
class Machine:
    """Device, type of the weights, and whether the forward pass is computed in half precision where that is safe (GPUs only).

    Raises:
        ValueError: there is no such device, or it cannot do what is asked.
    """

    device: str = "cpu"
    mixed_precision: bool = False
    group: Group = field(default_factory=Group)
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda"):
            raise ValueError(f"device {self.device!r} is unknown to training; expected cpu or cuda")
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device {self.device!r} was asked for, but torch {torch.__version__} finds no GPU here; use cpu, or a CUDA build of torch"
            )
        if self.mixed_precision and kind != "cuda":
            raise ValueError(f"mixed precision was asked for on device {self.device!r}; it is for GPUs, leave it out")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def put(self, x: Tensor) -> Tensor:
        """Return network inputs on this device, in its type."""
        return x.to(self.device, self.dtype, non_blocking=True)

    def half_where_safe(self) -> AbstractContextManager[None]:
        """Return the context in which forward passes are computed."""
        return torch.autocast("cuda" if self.on_gpu else "cpu", enabled=self.mixed_precision, dtype=torch.float16 if self.on_gpu else torch.bfloat16)

    def judging(self) -> AbstractContextManager[None]:
        """Return the context in which networks are judged: on a GPU float32 is float32 (not TensorFloat-32), by algorithms that repeat their bits."""
        if not self.on_gpu:
            return nullcontext()
        exact: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        return exact

    def loss_scaler(self) -> torch.amp.GradScaler:
        """Return what keeps gradients of half precision from vanishing; without mixed precision it does nothing."""
        return torch.amp.GradScaler("cuda" if self.on_gpu else "cpu", enabled=self.mixed_precision)
