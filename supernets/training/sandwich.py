"""BigNAS (Yu et al., ECCV 2020): one phase in which each step trains the largest network, two random ones and the smallest.

The largest learns from the labels, the others from what it answers (in-place distillation), on the same crop of each image, each
child at its own resolution. Gradients of the four are summed into one step. Only the largest has dropout; as it contains every
weight, one weight decay a step is its alone, too. Residual blocks begin as their shortcuts.

`bignas` has the schedule of the paper, and batch size, learning rate, optimizer and gradient clipping of the public
re-implementation by xfey (SGD, 640 images, 0.128); `bignas-paper` those of the paper (RMSProp, 4096 images, 0.256, no clipping told).
Both have AutoAugment, which is not here: images are cropped at random and mirrored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supernets.training.phases import Phase, Recipe

RANDOM_CHILDREN = 2
RULE: dict[str, Any] = {
    "children": ("largest", *["random"] * RANDOM_CHILDREN, "smallest"), "teacher": "in_place", "distillation_ratio": 1.0, "dropout": 0.2,
    "dropout_on": "largest", "resolution": "own", "schedule": "exponential",
}  # fmt: skip


def imagenet() -> Recipe:
    """Return the recipe for ImageNet."""
    return Recipe(
        "bignas", (Phase("sandwich", 360, 0.128, warmup_epochs=5, **RULE),), batch_size=640, weight_decay=1e-5, crop_scale=0.08,
        kernel_transform=False, gradient_norm=5.0, zero_last_norms=True,
    )  # fmt: skip


def paper() -> Recipe:
    """Return the recipe for ImageNet with the paper's optimizer, batch and learning rate; it does not tell its epochs."""
    own = imagenet()
    phases = tuple(replace(phase, learning_rate=0.256) for phase in own.phases)
    return replace(own, name="bignas-paper", phases=phases, batch_size=4096, optimizer="rmsprop", gradient_norm=None)


def small(epochs: float = 8, distilled: bool = True) -> Recipe:
    """Return a recipe for a tiny space on some thousand grey images: minutes on one or two cores.

    It is too short for the constant ending, so the rate falls as a cosine. Without `distilled` every child learns from the labels.
    """
    rule = {**RULE, "schedule": "cosine", "dropout": 0.1}
    if not distilled:
        rule.update(teacher="none", distillation_ratio=0.0)
    return Recipe(
        "bignas-small", (Phase("sandwich", epochs, 0.4, warmup_epochs=0.1 * epochs, **rule),), weight_decay=1e-5, crop_padding=2,
        kernel_transform=False, gradient_norm=5.0, zero_last_norms=True,
    )  # fmt: skip


RECIPES = {"bignas": imagenet, "bignas-paper": paper, "bignas-small": small}
