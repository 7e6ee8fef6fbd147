"""Fine-tuning of one subnet: cut out of its supernet, trained on alone, and judged before and after on the same test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.files import sha256_of
from profiler.shipped import weights_or_shipped
from profiler.subnet import SubnetRecord, read_subnet, write_subnet
from supernets.space import Architecture

if TYPE_CHECKING:
    from supernets.training.machine import Machine
    from supernets.training.phases import Recipe

SUBNET_FILE = "subnet.json"
LEARNING_RATE = 0.01  # for batches of 64; the authors of Once-for-All, who tune for 25 or 75 epochs, tell none


@dataclass(frozen=True)
class FinetuneResult:
    """The tuned weights and the subnet file that goes with them, with the accuracy on test images before and after."""

    weights: Path
    subnet: Path
    steps: int
    trained_steps: int
    accuracy_before: float
    accuracy_after: float
    test_images: int
    seconds: float

    def sentence(self) -> str:
        """Return what happened, for people."""
        change = f"{self.accuracy_before:.2%} before, {self.accuracy_after:.2%} after, on {self.test_images} test images"
        return f"{self.weights} is tuned: {self.trained_steps} of {self.steps} steps in {self.seconds:.0f} s of this run; accuracy {change}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {**vars(self), "weights": str(self.weights), "subnet": str(self.subnet)}


def finetune_from_files(
    subnet_file: Path, weights: Path | None, images: str, folder: Path, epochs: float, *, learning_rate: float = LEARNING_RATE, batch_size: int = 64,
    seed: int = 0, threads: int = 1, device: str = "cpu", mixed_precision: bool | None = None, report: Callable[[int, int, str], None] | None = None,
) -> FinetuneResult:  # fmt: skip
    """Tune the subnet of a subnet file, from its weights in a supernet's file, and write `supernet.safetensors` and `subnet.json`.

    The weights written are this network's alone; `profiler export` takes them with the subnet file. Killed, the same call goes on.

    Raises:
        ValueError, OSError: a file is missing or of another kind; the weights are of another space; the images do not fit.
    """
    from supernets.networks.checkpoint import load_supernet, supernet_metadata
    from supernets.training.data import open_images
    from supernets.training.distributed import joined
    from supernets.training.loop import Start, TrainProgress, train
    from supernets.training.machine import Machine

    record = read_subnet(subnet_file)
    weights = weights_or_shipped(weights, record.architecture.space)
    supernet, metadata = load_supernet(weights), supernet_metadata(weights)
    if supernet.space.name != record.architecture.space:
        raise ValueError(
            f"the weights are of space {supernet.space.name!r}, the subnet of {record.architecture.space!r}; use weights of the subnet's space"
        )
    space = supernet.space.only(record.architecture)
    begun = {name: tensor.detach().clone() for name, tensor in supernet.child(record.architecture).items()}
    start = Start(begun, sha256_of(weights), metadata.get("weight_scale", 1.0))

    def show(progress: TrainProgress) -> None:
        if report is not None:
            report(progress.step, progress.steps, f"loss {progress.loss:.3f}, {progress.images_per_s:.0f} images/s")

    def decoding(done: int, total: int) -> None:
        if report is not None:
            report(done, total, "decoding images")

    data = open_images(images, progress=decoding)

    recipe = replace(tuning_recipe(epochs, learning_rate, batch_size, metadata.get("own_branch_weights")), crop_padding=max(2, data.side // 14))
    with joined(device) as (group, own_device):
        half = own_device.startswith("cuda") if mixed_precision is None else mixed_precision
        machine = Machine(own_device, half, group)
        provenance = {"tuned_from": {"sha256": start.sha256, "provenance": metadata.get("provenance")}}
        summary = train(space, data, recipe, folder, seed, threads, show, machine=machine, start=start, provenance=provenance)
        tuned = load_supernet(summary.weights).tensors()
        before, after = (_accuracy(space, tensors, record.architecture, data, machine) if group.first else 0.0 for tensors in (begun, tuned))
        if group.first:
            _write(folder / SUBNET_FILE, record, summary.weights, after, len(data.test_labels))
    return FinetuneResult(
        summary.weights, folder / SUBNET_FILE, summary.steps, summary.trained_steps, before, after, len(data.test_labels), summary.seconds
    )


def tuning_recipe(epochs: float, learning_rate: float = LEARNING_RATE, batch_size: int = 64, own_branch_weights: bool | None = None) -> Recipe:
    """Return the recipe: one phase, one network, labels alone; of a network with branches (`own_branch_weights` is known) all it has.

    Raises:
        ValueError: a figure out of range.
    """
    from supernets.networks.gates import BranchBudget
    from supernets.training.phases import Phase, Recipe
    from supernets.training.repnas_sampler import BranchSettings

    branches = None if own_branch_weights is None else BranchSettings(BranchBudget(fraction=1.0), own_branch_weights)
    phase = Phase("finetune", epochs, learning_rate, children=("largest",), dropout=0.1)
    return Recipe("finetune", (phase,), batch_size=batch_size, kernel_transform=False, branches=branches)


def _accuracy(space: Any, tensors: Any, architecture: Architecture, data: Any, machine: Machine) -> float:
    from supernets.training.validation import accuracy

    placed = {name: machine.put(tensor) for name, tensor in tensors.items()}
    with machine.judging():
        return accuracy(space, placed, architecture, data.test_images, data.test_labels, data.calibration_images())


def _write(path: Path, record: SubnetRecord, weights: Path, accuracy: float, images: int) -> None:
    """Write the record with the tuned accuracy; of models and devices nothing is known yet."""
    tuned = record.changed(
        weights_sha256=sha256_of(weights), measured_accuracy=accuracy, measured_accuracy_images=images, models=(), verifications=()
    )
    write_subnet(path, tuned)
