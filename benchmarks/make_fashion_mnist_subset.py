"""Write supernets/data/fashion_mnist_subset.npz: 10,000 training and 2,000 test images of Fashion-MNIST, each class equally often.

    python benchmarks/make_fashion_mnist_subset.py [--idx-folder /usr/share/datasets/fashion-mnist] [--out FILE]

The same draw every time: the arrays (not the bytes of the npz, which hold a time) are equal on every machine; their
SHA-256 is printed.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from supernets.training import fashion_mnist
from supernets.training.data import SUBSET
from supernets.training.data_files import read_idx_folder, write_npz

SEED = 20_250_101
PER_CLASS = {"train": 1000, "test": 200}


def main() -> None:
    """Draw, write, and print the fingerprint of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idx-folder", type=Path, default=fashion_mnist.FOLDER)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "supernets" / "data" / SUBSET)
    options = parser.parse_args()
    whole, subset = read_idx_folder(options.idx_folder), {}
    for stream, (part, per_class) in enumerate(PER_CLASS.items()):
        rng = np.random.default_rng([SEED, stream])
        labels = whole[f"{part}_labels"]
        rows = np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(10)]))
        subset[f"{part}_images"], subset[f"{part}_labels"] = whole[f"{part}_images"][rows], labels[rows].astype(np.uint8)
    write_npz(options.out, subset, fashion_mnist.CLASS_NAMES)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(subset[key]).tobytes() for key in sorted(subset)))
    print(f"{options.out}: {options.out.stat().st_size} bytes, arrays {digest.hexdigest()}")


if __name__ == "__main__":
    main()
