"""Whether branches that a search chose are better than random ones of the same number, on Fashion-MNIST.

Each seed trains the tiny RepNAS network by the recipe `repnas-small` in three ways (random branches, then a search, then the fixed
network), and judges what is deployed, branches merged, on the test images:

    searched   the second phase learns gates; the branches they are highest for are fixed
    random     the second phase goes on as the first; as many branches, drawn at random, are fixed
    plain      no branches: the K x K convolution of each block alone, for all phases

All three are the same network once merged, so their latency is the same. A margin is told with its standard error over
the seeds; the exit status is 1 if searched branches do not beat random ones in the mean. With --out a stopped run goes on.

    python benchmarks/repnas_ablation.py [--images fashion-mnist] [--seeds 5] [--epochs 18] [--quick]
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from ablation import Job, Outcome, more_than_zero, parser, refuse_loss, told, trained

SPACE = "repnas-tiny"
ARMS = ("searched", "random", "plain")
EPOCHS = 18.0  # as many as the recipe `repnas-small` has
QUICK_EPOCHS = 0.1


def run(job: Job) -> Outcome:
    """Train and judge, in one thread; the counts are of branches kept, by kind."""
    from supernets.networks.checkpoint import KIND, read_tensors
    from supernets.spaces import space as search_space
    from supernets.training.data import open_images
    from supernets.training.loop import train
    from supernets.training.repnas import small
    from supernets.training.validation import accuracy

    started = time.process_time()
    images, space = open_images(job.images), search_space(SPACE)
    random, search, fixed = (phase.epochs * job.settings["stretched"] for phase in small().phases)
    recipe = small((random, search, fixed), start="random" if job.arm == "random" else "equal", learned=job.arm == "searched")
    if job.arm == "plain":
        recipe = replace(recipe, phases=tuple(replace(phase, children=("smallest",)) for phase in recipe.phases))
    summary = train(space, images, recipe, job.folder / f"{job.arm}-{job.seed}", job.seed, threads=1)
    tensors, _ = read_tensors(summary.weights, KIND)
    found = summary.history[-1].get("architecture")
    architecture = space.smallest() if found is None else space.architecture(found)
    top1 = accuracy(space, tensors, architecture, images.test_images, images.test_labels, images.calibration_images())
    kept: dict[str, int] = {}
    for choice in space.choices:
        if choice.kind.startswith("branch_"):
            kept[choice.kind] = kept.get(choice.kind, 0) + architecture[choice.name]
    return Outcome(job.arm, job.seed, {"merged": top1}, time.process_time() - started, kept)


def main() -> None:
    """Train, judge and print."""
    made = parser(__doc__, seeds=5)
    made.add_argument("--epochs", type=more_than_zero, default=EPOCHS, help="of each training")
    options = made.parse_args()
    epochs = QUICK_EPOCHS if options.quick else options.epochs
    outcomes = trained(options, run, {arm: {"stretched": epochs / EPOCHS} for arm in ARMS}, f"{SPACE}, {epochs:g} epochs a training")
    margin = told(outcomes, ARMS, {"merged": "the merged network"})
    for arm in ARMS[:2]:
        kinds = {kind: np.mean([o.counts[kind] for o in outcomes if o.arm == arm]) for kind in outcomes[0].counts}
        print(f"  {arm} keeps in the mean " + ", ".join(f"{kind.removeprefix('branch_')} {mean:.1f}" for kind, mean in kinds.items()))
    refuse_loss(margin, "searched", "random", options)


if __name__ == "__main__":
    main()
