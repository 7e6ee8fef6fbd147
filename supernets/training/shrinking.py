"""Progressive shrinking (Once-for-All, section 3.3 and appendix B) as recipes, and the corners of a space that it is judged at.

Resolution is elastic throughout; then kernel, depth and width become so, each in its phases, the largest network teaching.
Before widths shrink, channels are sorted by importance: inside blocks in the groups that are released already, between a
ResNet's blocks before the first narrower one is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from supernets.space import Architecture, Choice, SearchSpace, Value
from supernets.training.crops import AUGMENTATION
from supernets.training.phases import Phase, Recipe

LARGEST = {"kernel_size": (7,), "expand_ratio": (6,), "depth": (4,)}
ANY_KERNEL = {"expand_ratio": (6,), "depth": (4,)}
DEPTH_3 = {"expand_ratio": (6,), "depth": (3, 4)}
ANY_DEPTH = {"expand_ratio": (6,)}
EXPAND_4 = {"expand_ratio": (4, 6)}
SORT: dict[str, Any] = {"actions": ("sort_channels",)}
FULL_WIDTH = {"width": ("largest",), "inner_width": ("largest",)}  # ResNets: outer widths shrink last
FULL_RESNET = {**FULL_WIDTH, "expand_ratio": ("largest",), "extra_depth": ("largest",), "middle": ("largest",)}
RESNET_DEPTH = {**FULL_WIDTH, "expand_ratio": ("largest",)}
CORNER_RESOLUTIONS = (160, 224)  # where a space has them; else its smallest and largest
SHORT = {"resolution": "r", "kernel_size": "k", "expand_ratio": "e", "depth": "d", "extra_depth": "d", "width": "w"}


def taught(
    name: str, epochs: float, learning_rate: float, restriction: Mapping[str, tuple[Any, ...]], children: int, *,
    teacher: str = "phase_start", **others: Any,
) -> Phase:  # fmt: skip
    """Return a phase of so many random children a step, taught by the largest network."""
    return Phase(name, epochs, learning_rate, restriction, ("random",) * children, teacher=teacher, distillation_ratio=1.0, **others)


def imagenet() -> Recipe:
    """Return Once-for-All's own: batch 64 on each of 32 GPUs, learning rates for all of them (appendix B and released code).

    Crops are cut out of the images as they were decoded, which is to one square size.
    """
    student: dict[str, Any] = {"teacher": "full_network", "dropout": 0.1}
    return Recipe(
        "imagenet",
        (
            Phase("full", 180, 2.6, LARGEST, ("largest",)),
            taught("kernel", 120, 0.96, ANY_KERNEL, 1, warmup_epochs=5, **student),
            taught("depth1", 25, 0.08, DEPTH_3, 2, **student),
            taught("depth2", 120, 0.24, ANY_DEPTH, 2, warmup_epochs=5, **student),
            taught("expand1", 25, 0.08, EXPAND_4, 4, **student, **SORT),
            taught("expand2", 120, 0.24, {}, 4, warmup_epochs=5, **student, **SORT),
        ),
        batch_size=2048,
        validation="epoch",
        **AUGMENTATION,
    )


def small() -> Recipe:
    """Return a recipe for the tiny space on some thousand grey images: minutes on one or two cores."""
    return Recipe(
        "small",
        (
            Phase("full", 6, 0.08, LARGEST, ("largest",), warmup_epochs=0.5),
            taught("kernel", 1, 0.05, ANY_KERNEL, 1),
            taught("depth", 1, 0.05, ANY_DEPTH, 1),
            taught("expand1", 1, 0.05, EXPAND_4, 2, **SORT),
            taught("expand2", 4, 0.05, {}, 2, **SORT),
        ),
        crop_padding=2,
    )


def small_long() -> Recipe:
    """Return a recipe of 40 epochs for some thousand grey images: for networks narrow enough to need the largest one's teaching.

    Rates are high for so few steps; residual branches that begin at nothing and bounded gradients let them be.
    """
    return Recipe(
        "small-long",
        (
            Phase("full", 18, 0.3, LARGEST, ("largest",), warmup_epochs=0.5),
            taught("kernel", 1, 0.15, ANY_KERNEL, 1, teacher="full_network"),
            taught("depth", 1, 0.15, ANY_DEPTH, 1, teacher="full_network"),
            taught("expand1", 2, 0.15, EXPAND_4, 2, teacher="full_network", **SORT),
            taught("expand2", 18, 0.3, {}, 2, teacher="full_network", **SORT),
        ),
        crop_padding=2, zero_last_norms=True, gradient_norm=5.0,
    )  # fmt: skip


def cifar() -> Recipe:
    """Return a recipe for the tiny space on 50,000 colour images of 32 pixels: about three quarters of an hour on one idle core."""
    return Recipe(
        "cifar",
        (
            Phase("full", 3, 0.08, LARGEST, ("largest",), warmup_epochs=0.2),
            taught("kernel", 1, 0.05, ANY_KERNEL, 1),
            taught("depth", 1, 0.05, ANY_DEPTH, 1),
            taught("expand1", 1, 0.05, EXPAND_4, 2, **SORT),
            taught("expand2", 3, 0.05, {}, 2, **SORT),
        ),
    )


def imagenet_resnet() -> Recipe:
    """Return the recipe for `ofa-resnet50`: the phases of `imagenet`, with widths in the place of kernels, and last. Its authors tell none."""
    student: dict[str, Any] = {"teacher": "full_network", "dropout": 0.1}
    return Recipe(
        "imagenet-resnet",
        (
            Phase("full", 180, 2.6, FULL_RESNET, ("largest",)),
            taught("depth", 120, 0.24, RESNET_DEPTH, 2, warmup_epochs=5, **student),
            taught("expand", 120, 0.24, FULL_WIDTH, 4, warmup_epochs=5, **student, **SORT),
            taught("width", 120, 0.24, {}, 4, warmup_epochs=5, **student, **SORT),
        ),
        batch_size=2048, kernel_transform=False, validation="epoch", **AUGMENTATION,
    )  # fmt: skip


def small_resnet() -> Recipe:
    """Return the recipe for the tiny ResNet spaces on some thousand grey images.

    Rates are high for so few steps, as in `small_long`; the last phase has as many subnets a step as that of `imagenet_resnet`.
    """
    return Recipe(
        "small-resnet",
        (
            Phase("full", 6, 0.2, FULL_RESNET, ("largest",), warmup_epochs=0.5),
            taught("depth", 0.5, 0.1, RESNET_DEPTH, 1, teacher="full_network"),
            taught("expand", 0.5, 0.1, FULL_WIDTH, 2, teacher="full_network", **SORT),
            taught("width", 5, 0.1, {}, 4, teacher="full_network", **SORT),
        ),
        crop_padding=2, kernel_transform=False, zero_last_norms=True, gradient_norm=5.0,
    )  # fmt: skip


def small_resnet_long() -> Recipe:
    """Return a recipe of 26 epochs for the tiny ResNet spaces on some thousand grey images."""
    return Recipe(
        "small-resnet-long",
        (
            Phase("full", 10, 0.2, FULL_RESNET, ("largest",), warmup_epochs=0.5),
            taught("depth", 2, 0.1, RESNET_DEPTH, 1, teacher="full_network"),
            taught("expand", 4, 0.1, FULL_WIDTH, 2, teacher="full_network", **SORT),
            taught("width", 10, 0.2, {}, 2, teacher="full_network", **SORT),
        ),
        crop_padding=2, kernel_transform=False, zero_last_norms=True, gradient_norm=5.0,
    )  # fmt: skip


MOBILE = {"imagenet": imagenet, "small": small, "small-long": small_long, "cifar": cifar}
RESNET = {"imagenet-resnet": imagenet_resnet, "small-resnet": small_resnet, "small-resnet-long": small_resnet_long}
RECIPES = {**MOBILE, **RESNET}


def corners(space: SearchSpace) -> dict[str, Architecture]:
    """Return name → network for every combination of smallest and largest of each kind of choice, such as `r160 k3 e6 d2`.

    All choices of a kind go together. Kinds other than resolution, kernel size, expansion, depth and width stay at the largest.
    """
    of_kind = {kind: [choice for choice in space.choices if choice.kind == kind] for kind in SHORT}
    ends = {kind: _ends(choices) for kind, choices in of_kind.items() if choices}
    found: dict[str, Architecture] = {}
    for combination in itertools.product(*(each.items() for each in ends.values())):
        values: dict[str, Value] = {choice.name: choice.allowed[-1] for choice in space.choices}
        for _, chosen in combination:
            values.update(chosen)
        found[" ".join(label for label, _ in combination)] = space.architecture(values)
    return found


def _ends(choices: list[Choice]) -> dict[str, dict[str, Value]]:
    """Return label → values of the choices of one kind, for both ends, or for the one there is."""
    first, short = choices[0], SHORT[choices[0].kind]
    if first.kind == "resolution" and set(CORNER_RESOLUTIONS) <= set(first.allowed):
        return {f"{short}{side}": {first.name: side} for side in CORNER_RESOLUTIONS}
    return {f"{short}{first.allowed[end]}": {choice.name: choice.allowed[end] for choice in choices} for end in (0, -1)}
