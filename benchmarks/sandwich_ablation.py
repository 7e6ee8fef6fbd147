"""Whether in-place distillation makes the sandwich rule better, on Fashion-MNIST, at equal epochs.

    distilled       each step's largest network teaches the two random ones and the smallest, which see no labels
    labels alone    the same four networks of each step all learn from the labels

The exit status is 1 if distillation is not ahead on random subnets in the mean over the seeds.

    python benchmarks/sandwich_ablation.py [--images fashion-mnist] [--seeds 3] [--epochs 24] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from supernet_ablation import compare, epochs_of, supernet_parser

from supernets.training.sandwich import small

if __name__ == "__main__":
    options = supernet_parser(__doc__, "bignas-tiny", 24.0).parse_args()
    compare(options, {"distilled": small(epochs_of(options)), "labels alone": small(epochs_of(options), distilled=False)})
