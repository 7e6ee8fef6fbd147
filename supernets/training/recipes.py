"""Recipes by name. All shrink progressively (Once-for-All, section 3.3): resolution, then kernel, depth, width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernets.training.phases import Phase, Recipe

LARGEST = {"kernel_size": (7,), "expand_ratio": (6,), "depth": (4,)}
ANY_KERNEL = {"expand_ratio": (6,), "depth": (4,)}
DEPTH_3 = {"expand_ratio": (6,), "depth": (3, 4)}
ANY_DEPTH = {"expand_ratio": (6,)}
EXPAND_4 = {"expand_ratio": (4, 6)}
SORT: dict[str, Any] = {"actions": ("sort_channels",)}


class UnknownRecipeError(KeyError):
    """No recipe has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def _taught(
    name: str, epochs: float, learning_rate: float, restriction: Mapping[str, tuple[Any, ...]], children: int, *,
    teacher: str = "phase_start", **others: Any,
) -> Phase:  # fmt: skip
    return Phase(name, epochs, learning_rate, restriction, ("random",) * children, teacher=teacher, distillation_ratio=1.0, **others)


def _imagenet() -> Recipe:
    """Once-for-All's own: batch 64 on each of 32 GPUs, learning rates for all of them (appendix B and released code).

    Of its augmentation (random resized crops, colour jitter) only moved and mirrored images are made here.
    """
    student: dict[str, Any] = {"teacher": "full_network", "dropout": 0.1}
    return Recipe(
        "imagenet",
        (
            Phase("full", 180, 2.6, LARGEST, ("largest",)),
            _taught("kernel", 120, 0.96, ANY_KERNEL, 1, warmup_epochs=5, **student),
            _taught("depth1", 25, 0.08, DEPTH_3, 2, **student),
            _taught("depth2", 120, 0.24, ANY_DEPTH, 2, warmup_epochs=5, **student),
            _taught("expand1", 25, 0.08, EXPAND_4, 4, **student, **SORT),
            _taught("expand2", 120, 0.24, {}, 4, warmup_epochs=5, **student, **SORT),
        ),
        batch_size=2048,
        crop_padding=28,
    )


def _small() -> Recipe:
    """For the tiny space on some thousand grey images: minutes on one or two cores."""
    return Recipe(
        "small",
        (
            Phase("full", 6, 0.08, LARGEST, ("largest",), warmup_epochs=0.5),
            _taught("kernel", 1, 0.05, ANY_KERNEL, 1),
            _taught("depth", 1, 0.05, ANY_DEPTH, 1),
            _taught("expand1", 1, 0.05, EXPAND_4, 2, **SORT),
            _taught("expand2", 4, 0.05, {}, 2, **SORT),
        ),
        crop_padding=2,
    )


def _cifar() -> Recipe:
    """For the tiny space on 50,000 colour images of 32 pixels: about three quarters of an hour on one idle core."""
    return Recipe(
        "cifar",
        (
            Phase("full", 3, 0.08, LARGEST, ("largest",), warmup_epochs=0.2),
            _taught("kernel", 1, 0.05, ANY_KERNEL, 1),
            _taught("depth", 1, 0.05, ANY_DEPTH, 1),
            _taught("expand1", 1, 0.05, EXPAND_4, 2, **SORT),
            _taught("expand2", 3, 0.05, {}, 2, **SORT),
        ),
    )


RECIPES = {"imagenet": _imagenet, "small": _small, "cifar": _cifar}


def recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        UnknownRecipeError: no recipe has that name.
    """
    if name not in RECIPES:
        raise UnknownRecipeError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name]()
