"""Recipes of RepNAS (Zhang et al., 2021): branches are drawn at random, then by gates that learn, then fixed, in one run.

`paper` is the method as published: seven branches that share the block's kernel, half of them kept (75 of the 149 of
RepVGG-A). `release` is the authors' code: a kernel a branch, the skip always there, 0.34 of the others. The schedule of
both is the code's: the weights' learning rate falls as one cosine over all phases. Norms keep no running statistics in
training, so none of the search's are left in the fixed network: its own are measured when it is cut out.
Of that code differ: momentum begins anew with each phase and is Nesterov's, and the 1x1 convolution before a K x K one is
there at stride 2 too. How images are cropped (`crop_scale`, without colours) is a choice of ours, the usual one for ImageNet.
"""

from __future__ import annotations

from typing import Any

from supernets.networks.gates import BranchBudget
from supernets.training.phases import Phase, Recipe
from supernets.training.repnas_sampler import BUDGETED, CHOSEN, GATED, BranchSettings

KEPT_OF_A = 75 / 149  # branches of the paper's RepVGG-A networks
# of the authors' code, but for the crops
CODE: dict[str, Any] = {"batch_size": 256, "weight_decay": 1e-4, "label_smoothing": 0.0, "crop_scale": 0.08, "gradient_norm": 5.0}


def three_phases(epochs: tuple[float, float, float], learning_rate: float, **others: Any) -> tuple[Phase, ...]:
    """Return the phases: so many epochs of random branches, of learning which, and of the network with those chosen."""
    phases, before = [], 0.0
    for name, kind, length in zip(("random", "search", "fixed"), (BUDGETED, GATED, CHOSEN), epochs, strict=True):
        phases.append(Phase(name, length, learning_rate, children=(kind,), part_of=(before, sum(epochs)), **others))
        before += length
    return tuple(phases)


def _paper() -> Recipe:
    """Return the recipe of the paper, for ImageNet."""
    branches = BranchSettings(BranchBudget(fraction=KEPT_OF_A))
    return Recipe("repnas-paper", three_phases((15, 35, 100), 0.1, dropout=0.1), kernel_transform=False, branches=branches, **CODE)


def _release() -> Recipe:
    """Return the recipe of the authors' code, for ImageNet."""
    branches = BranchSettings(BranchBudget(fraction=0.34, skip="forced"), own_weights=True)
    return Recipe("repnas-release", three_phases((15, 35, 100), 0.1, dropout=0.1), kernel_transform=False, branches=branches, **CODE)


def small(epochs: tuple[float, float, float] = (2, 4, 12), start: str = "equal", learned: bool = True, kept: float = 0.34) -> Recipe:
    """Return a recipe for some thousand grey images: minutes on one core.

    Gates have few steps there, so they learn faster than on ImageNet. Most epochs are the fixed network's, as in the paper:
    weights that other branches used as well need them. Without `learned` the second phase goes on as the first; from a random
    `start` the branches chosen are then random ones, as many.
    """
    phases = three_phases(epochs, 0.05)
    if not learned:
        phases = tuple(Phase(**{**phase.to_dict(), "children": (BUDGETED,)}) if phase.name == "search" else phase for phase in phases)
    branches = BranchSettings(BranchBudget(fraction=kept), learning_rate=0.05, weight_decay=0.0, start=start)
    return Recipe("repnas-small", phases, crop_padding=2, kernel_transform=False, gradient_norm=5.0, branches=branches)


PRESETS = {"paper": _paper, "release": _release, "small": small}
RECIPES = {f"repnas-{name}": make for name, make in PRESETS.items()}
