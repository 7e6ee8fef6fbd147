"""Whether progressive shrinking is better than sampling everything from the start, on Fashion-MNIST, at equal epochs.

    shrinking          a recipe of `profiler train`: the largest network first, then one kind of choice after another becomes elastic, the
                       largest network teaching
    from the start     the same phases, rates and numbers of subnets a step, but all of them random subnets of the whole space, and labels
                       alone
    one at once        from the start with a schedule of its own: one random subnet in every step, the first phase's rate, falling once over
                       all epochs
    two at once        the same with two random subnets in every step

Narrow networks and all of Fashion-MNIST, so that the largest network, when it begins to teach, is ahead of what random subnets come to. The
exit status is 1 if shrinking is not ahead of the second on random subnets in the mean over the seeds.

    python benchmarks/shrinking_ablation.py [--space NAME] [--recipe NAME] [--images fashion-mnist-subset] [--seeds 8] [--epochs 3] [--quick]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from supernet_ablation import compare, epochs_of, supernet_parser

from supernets.training.phases import Phase, Recipe
from supernets.training.shrinking import RECIPES

SPACE = "ofa-resnet50-tiny-w0.5:resolutions=20"
RECIPE = "small-resnet"
IMAGES = "fashion-mnist"
EPOCHS = 3.0


def arms(shrinking: Recipe, epochs: float) -> Mapping[str, Recipe]:
    """Return the recipes, of as many epochs in all."""
    stretched = epochs / sum(phase.epochs for phase in shrinking.phases)
    phases = tuple(replace(phase, epochs=phase.epochs * stretched, warmup_epochs=phase.warmup_epochs * stretched) for phase in shrinking.phases)
    first = phases[0]
    mirrored = tuple(
        Phase(phase.name, phase.epochs, phase.learning_rate, children=("random",) * len(phase.children), warmup_epochs=phase.warmup_epochs)
        for phase in phases
    )
    one = Phase("everything", epochs, first.learning_rate, children=("random",), warmup_epochs=first.warmup_epochs)
    two = replace(one, children=("random", "random"))
    return {
        "shrinking": replace(shrinking, phases=phases),
        "from the start": replace(shrinking, name="from-the-start", phases=mirrored),
        "one at once": replace(shrinking, name="one-at-once", phases=(one,)),
        "two at once": replace(shrinking, name="two-at-once", phases=(two,)),
    }


if __name__ == "__main__":
    made = supernet_parser(__doc__, SPACE, EPOCHS)
    made.set_defaults(images=IMAGES, seeds=8)  # the margin is small
    made.add_argument("--recipe", default=RECIPE, choices=sorted(RECIPES), help="of progressive shrinking")
    options = made.parse_args()
    compare(options, arms(RECIPES[options.recipe](), epochs_of(options)))
