"""Whether progressive shrinking is better than sampling everything from the start, on Fashion-MNIST, at equal epochs.

    shrinking       the recipe `small`: the largest network first, then kernel, depth and width become elastic, the largest network teaching
    from the start  two random subnets of the whole space in every step, as many as shrinking has at most; labels alone

The exit status is 1 if shrinking is not ahead on random subnets in the mean over the seeds.

    python benchmarks/shrinking_ablation.py [--images fashion-mnist] [--seeds 3] [--epochs 13] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from supernet_ablation import compare

from supernets.training.phases import Phase, Recipe
from supernets.training.shrinking import small

SPACE = "ofa-mobilenetv3-tiny"
EPOCHS = 13.0  # as many as the recipe `small` has


def arms(epochs: float) -> Mapping[str, Recipe]:
    """Return the two recipes, of as many epochs in all."""
    shrinking = small()
    stretched = epochs / sum(phase.epochs for phase in shrinking.phases)
    phases = tuple(replace(phase, epochs=phase.epochs * stretched, warmup_epochs=phase.warmup_epochs * stretched) for phase in shrinking.phases)
    first = phases[0]
    everything = Phase("everything", epochs, first.learning_rate, children=("random", "random"), warmup_epochs=first.warmup_epochs)
    return {"shrinking": replace(shrinking, phases=phases), "from the start": replace(shrinking, name="from-the-start", phases=(everything,))}


if __name__ == "__main__":
    compare(__doc__, SPACE, EPOCHS, arms)
