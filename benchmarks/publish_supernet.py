"""Put a trained supernet into supernets/weights/, with a JSON beside it that says how it was made and how good it is.

    profiler train --space ofa-mobilenetv3-tiny --images fashion-mnist-subset --recipe small --seed 0 --out trained
    python benchmarks/publish_supernet.py trained/supernet.safetensors --images fashion-mnist-subset --name ofa_mobilenetv3_tiny_fashion_mnist

Accuracies are of the largest, the smallest and some random subnets on all test images, their norms calibrated on 2,048
training images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supernets.networks.checkpoint import load_supernet, save_supernet, supernet_metadata
from supernets.space import Architecture
from supernets.training.data import open_images
from supernets.training.validation import accuracy

WEIGHTS = Path(__file__).parent.parent / "supernets" / "weights"
RANDOM_SUBNETS = 24


def published_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what the writer of the file added to it, with the folder its command wrote to called `trained`."""
    origin = dict(metadata["provenance"])
    if "command" in origin:
        origin["command"] = re.sub(r"--out[ =](\S+)", "--out trained", origin["command"])
    return {"settings": metadata["settings"], "steps": metadata["steps"], "history": metadata["history"], "provenance": origin}


def main() -> None:
    """Judge, copy, write the JSON, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", type=Path)
    parser.add_argument("--images", default="fashion-mnist-subset")
    parser.add_argument("--name", default="ofa_mobilenetv3_tiny_fashion_mnist")
    options = parser.parse_args()
    torch.set_num_threads(1)
    supernet, images = load_supernet(options.supernet), open_images(options.images)
    space, tensors = supernet.space, supernet.tensors()
    calibration = images.calibration_images(2048, seed=0)

    def top1(architecture: Architecture) -> float:
        return accuracy(space, tensors, architecture, images.test_images, images.test_labels, calibration)

    subnets = space.decode(space.sample_different(RANDOM_SUBNETS, np.random.default_rng(0)))
    accuracies = {
        "images": f"{len(images.test_images)} test images of {options.images}",
        "calibration": "2048 training images, seed 0",
        "largest": top1(space.largest()),
        "smallest": top1(space.smallest()),
        "random": [{"resolution": subnet["resolution"], "top1": top1(subnet)} for subnet in subnets],
    }
    target = WEIGHTS / f"{options.name}.safetensors"
    save_supernet(target, supernet, published_metadata(supernet_metadata(options.supernet)))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    record = {"file": target.name, "sha256": digest, "metadata": supernet_metadata(target), "test_top1": accuracies}
    target.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{target.name}: {target.stat().st_size} bytes, largest {accuracies['largest']:.2%}, smallest {accuracies['smallest']:.2%}")


if __name__ == "__main__":
    main()
