"""Whether in-place distillation makes the sandwich rule better, on Fashion-MNIST, at equal epochs.

    distilled       each step's largest network teaches the two random ones and the smallest, which see no labels
    labels alone    the same four networks of each step all learn from the labels

The exit status is 1 if distillation is not ahead on random subnets in the mean over the seeds.

    python benchmarks/sandwich_ablation.py [--images fashion-mnist] [--seeds 3] [--epochs 24] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from collections.abc import Mapping

from supernet_ablation import compare

from supernets.training.phases import Recipe
from supernets.training.sandwich import small

SPACE = "bignas-tiny"
EPOCHS = 24.0


def arms(epochs: float) -> Mapping[str, Recipe]:
    """Return the two recipes, of as many epochs."""
    return {"distilled": small(epochs), "labels alone": small(epochs, distilled=False)}


if __name__ == "__main__":
    compare(__doc__, SPACE, EPOCHS, arms)
