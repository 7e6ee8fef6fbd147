"""One network trained from scratch, as the one phase of the one loop: short, to tell architectures apart (MnasNet's proxy), or whole.

No weights are shared: the loop is given the space of this network alone. `imagenet` and `imagenet_proxy` have MnasNet's RMSProp and
learning rate (Tan et al., CVPR 2019, section 4, and the released trainer: 0.016 for each 256 images of a batch, which is the paper's
0.256 for 4096). The rate of `imagenet` falls as MnasNet's does, by 3 % each 2.4 epochs, but not under 5 % (`schedules`); that of a
proxy falls as a cosine, since the paper does not tell how it does in five epochs. Images are cropped at random, as Inception's are; in
the place of Inception's colours they have Once-for-All's, whose brightness and saturation are multiplied by random factors (`crops`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernets.space import Architecture, SearchSpace
from supernets.training.crops import AUGMENTATION
from supernets.training.data import ImageData
from supernets.training.loop import TrainProgress, TrainSummary, train
from supernets.training.phases import Phase, Recipe

RATE_OF_256 = 0.016  # learning rate for each 256 images of a batch
MNASNET: dict[str, Any] = {"weight_decay": 1e-5, "optimizer": "rmsprop", **AUGMENTATION}


def imagenet(epochs: float = 350) -> Recipe:
    """Return MnasNet's full training; batch and learning rate are the released trainer's."""
    phase = Phase("network", epochs, 4 * RATE_OF_256, children=("largest",), warmup_epochs=5, dropout=0.2, schedule="exponential")
    return Recipe("network", (phase,), batch_size=1024, kernel_transform=False, averaging=0.9999, **MNASNET)


def imagenet_proxy(epochs: float = 5) -> Recipe:
    """Return MnasNet's proxy: five epochs of the real task."""
    phase = Phase("proxy", epochs, RATE_OF_256, children=("largest",), warmup_epochs=0.1 * epochs)
    return Recipe("network-proxy", (phase,), batch_size=256, kernel_transform=False, **MNASNET)


def small(epochs: float = 12) -> Recipe:
    """Return a full training on some thousand small images: a minute or two a network."""
    phase = Phase("network", epochs, 0.05, children=("largest",), warmup_epochs=0.05 * epochs)
    return Recipe("network-small", (phase,), weight_decay=1e-5, crop_padding=2, kernel_transform=False, gradient_norm=5.0)


def small_proxy(epochs: float = 1) -> Recipe:
    """Return a proxy on some thousand small images: seconds a network."""
    return replace(small(epochs), name="network-small-proxy")


# by name: the recipe of a network's full training, and that of its proxy
FULL: dict[str, Callable[[], Recipe]] = {"network": imagenet, "network-small": small}
PROXIES: dict[str, Callable[[], Recipe]] = {"network-proxy": imagenet_proxy, "network-small-proxy": small_proxy}


def of_network(recipe: Recipe, architecture: Architecture) -> Recipe:
    """Return the recipe for this network alone: what is trained in another folder or file is then told from it."""
    own = {name: (value,) for name, value in architecture.values.items() if value is not None}
    return replace(recipe, phases=tuple(replace(phase, restriction=own) for phase in recipe.phases))


def train_network(
    space: SearchSpace, architecture: Architecture, images: ImageData, recipe: Recipe, folder: str | Path, seed: int = 0, threads: int = 1,
    progress: Callable[[TrainProgress], None] | None = None, **others: Any,
) -> TrainSummary:  # fmt: skip
    """Train a network of the space from scratch; killed, the same call goes on, and finished it does nothing.

    The `weights` it returns are a file of this network alone (`networks.checkpoint`), to be exported and judged as a
    supernet's are. `others` are further arguments of `loop.train`.

    Raises:
        ArchitectureError: the space has no such architecture.
        TrainingError, CheckpointError: see `loop.train`.
    """
    canonical = space.architecture(architecture)
    return train(space.only(canonical), images, of_network(recipe, canonical), folder, seed, threads, progress, **others)
