"""Whether progressive shrinking is better than sampling everything from the start, on Fashion-MNIST, at equal epochs.

    shrinking       the recipe `small-long`: the largest network first, then kernel, depth and width become elastic, the largest network teaching
    from the start  the same phases, rates and numbers of subnets a step, but all of them random subnets of the whole space, and labels alone
    two at once     from the start with a schedule of its own: two random subnets in every step, as many as shrinking has at most; the first
                    phase's rate, falling once over all epochs

The space is narrow by default: its networks are too small for their images, as ImageNet's are, which is where a larger network has
something to teach. The exit status is 1 if shrinking is not ahead of the second on random subnets in the mean over the seeds; what it is
against the third is told beside it.

    python benchmarks/shrinking_ablation.py [--space NAME] [--images fashion-mnist] [--seeds 3] [--epochs 40] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from supernet_ablation import compare

from supernets.training.phases import Phase, Recipe
from supernets.training.shrinking import small_long

SPACE = "ofa-mobilenetv3-tiny-w0.25"
EPOCHS = 40.0  # as many as the recipe `small-long` has


def arms(epochs: float) -> Mapping[str, Recipe]:
    """Return the recipes, of as many epochs in all."""
    shrinking = small_long()
    stretched = epochs / sum(phase.epochs for phase in shrinking.phases)
    phases = tuple(replace(phase, epochs=phase.epochs * stretched, warmup_epochs=phase.warmup_epochs * stretched) for phase in shrinking.phases)
    first = phases[0]
    mirrored = tuple(
        Phase(phase.name, phase.epochs, phase.learning_rate, children=("random",) * len(phase.children), warmup_epochs=phase.warmup_epochs)
        for phase in phases
    )
    everything = Phase("everything", epochs, first.learning_rate, children=("random", "random"), warmup_epochs=first.warmup_epochs)
    return {
        "shrinking": replace(shrinking, phases=phases),
        "from the start": replace(shrinking, name="from-the-start", phases=mirrored),
        "two at once": replace(shrinking, name="two-at-once", phases=(everything,)),
    }


if __name__ == "__main__":
    compare(__doc__, SPACE, EPOCHS, arms)
