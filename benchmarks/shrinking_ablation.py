"""Whether progressive shrinking is better than sampling everything from the start, on Fashion-MNIST, at equal epochs.

    shrinking          the recipe `small-long`: the largest network first, then kernel, depth and width become elastic, the largest network
                       teaching
    from the start     the same phases, rates and numbers of subnets a step, but all of them random subnets of the whole space, and labels
                       alone
    two at once        from the start with a schedule of its own: two random subnets in every step, as many as shrinking has at most; the
                       first phase's rate, falling once over all epochs

All arms see the same images: random crops of at least `--crop-scale` of the area, by default as Once-for-All crops ImageNet's; `--crop-scale 0`
moves images by two pixels at most, as the recipe does. The space is narrow by default. Both make the task hard for its networks, as ImageNet is
for its own, which is where a larger network has something to teach. The exit status is 1 if shrinking is not ahead of the second on random
subnets in the mean over the seeds.

    python benchmarks/shrinking_ablation.py [--space NAME] [--images fashion-mnist] [--seeds 3] [--epochs 40] [--crop-scale 0.08] [--quick]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from supernet_ablation import compare, epochs_of, supernet_parser

from supernets.training.crops import AUGMENTATION
from supernets.training.phases import Phase, Recipe
from supernets.training.shrinking import small_long

SPACE = "ofa-mobilenetv3-tiny-w0.25"
EPOCHS = 40.0  # as many as the recipe `small-long` has


def arms(epochs: float, crop_scale: float) -> Mapping[str, Recipe]:
    """Return the recipes, of as many epochs in all."""
    shrinking = replace(small_long(), crop_scale=crop_scale or None)
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
    made = supernet_parser(__doc__, SPACE, EPOCHS)
    made.add_argument("--crop-scale", type=float, default=AUGMENTATION["crop_scale"], help="least share of an image's area in a crop; 0: no crops")
    options = made.parse_args()
    compare(options, arms(epochs_of(options), options.crop_scale))
