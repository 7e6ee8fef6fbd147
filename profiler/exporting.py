"""Export of one subnet: cut, calibrated, folded, written as ONNX and TFLite, and checked against the supernet on real images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profiler.files import sha256_of
from profiler.measuring.models import writer_of
from profiler.shipped import weights_or_shipped
from profiler.subnet import ExportedModel, SubnetRecord, read_subnet, write_subnet
from supernets.atomic_file import write_whole

RUNTIME_OF = {"onnx": "onnxruntime", "tflite": "litert"}
# Norms are folded and runtimes sum in another order: differences of float32 rounding, never more.
TOLERANCE = 1e-4
Array = np.ndarray[Any, Any]


class ExportCheckError(RuntimeError):
    """An exported file does not compute what the supernet computes."""


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the model formats in `onnx,tflite`, each once.

    Raises:
        ValueError: an unknown format, or none.
    """
    formats = tuple(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in formats if name not in RUNTIME_OF]
    if unknown:
        raise ValueError(f"unknown export format {unknown[0]!r}; known formats: {', '.join(RUNTIME_OF)}")
    if not formats:
        raise ValueError(f"no export format was given; expected some of {', '.join(RUNTIME_OF)}")
    return formats


def export_subnet(
    record: SubnetRecord,
    subnet: Any,
    folder: Path,
    check_images_NCHW: Array,
    run_model: Callable[[str, bytes, Array], Array],
    formats: Sequence[str] = ("onnx", "tflite"),
) -> SubnetRecord:
    """Write the subnet's models and its subnet file into `folder`; returns the record with the models in it.

    What a device said of models exported before is left out: it said so of other files.

    `subnet` is a `supernets.export.subnet.Subnet`; `run_model(format, model, images_NCHW)` runs a model on a runtime.

    Raises:
        ExportCheckError: a model's outputs differ from the supernet's by more than float32 rounding; nothing is written.
    """
    import torch

    from supernets.export.weights import fold

    weights = fold(subnet.arrays(), subnet.blocks)
    reference = subnet.logits(torch.from_numpy(check_images_NCHW))
    contents = {name: writer_of(name)(subnet.blocks, weights) for name in formats}
    models = [_checked(name, content, reference, run_model(name, content, check_images_NCHW)) for name, content in contents.items()]
    for model in models:
        write_whole(folder / model.file, contents[model.format])
    record = record.changed(models=tuple(models), verifications=())
    write_subnet(folder / "subnet.json", record)
    return record


def export_from_files(
    subnet_file: Path, weights: Path | None, images: str, folder: Path, formats: Sequence[str], calibration_images: int, check_images: int
) -> SubnetRecord:
    """Export the subnet of a subnet file with the weights of a supernet file (None: those that come for its space); see `export_subnet`.

    An accuracy that was measured with other weights is not carried over.

    Raises:
        ValueError, OSError: a file is missing or of another kind; the weights are of another space.
    """
    from supernets.networks.checkpoint import load_supernet
    from supernets.training.data import open_images

    record = read_subnet(subnet_file)
    weights = weights_or_shipped(weights, record.architecture.space)
    supernet = load_supernet(weights)
    weights_sha256 = sha256_of(weights)
    if record.weights_sha256 != weights_sha256:
        record = record.changed(weights_sha256=weights_sha256, measured_accuracy=None, measured_accuracy_images=None)
    data = open_images(images)
    subnet = cut(record, supernet, data, calibration_images)
    check = network_pixels(data, check_images, record.architecture["resolution"])
    return export_subnet(record, subnet, folder, check, run_on_this_machine, formats)


def cut(record: SubnetRecord, supernet: Any, data: Any, calibration_images: int) -> Any:
    """Return the record's subnet cut from a supernet, its norms calibrated on training images.

    Raises:
        ValueError: the supernet is of another space.
    """
    from supernets.export.subnet import cut_subnet
    from supernets.training.images import input_batches
    from supernets.training.validation import BATCH_SIZE  # as in sampling accuracies: the exported subnet is the one that was measured

    if supernet.space.name != record.architecture.space:
        raise ValueError(
            f"the weights are of space {supernet.space.name!r}, the subnet of {record.architecture.space!r}; use weights of the subnet's space"
        )
    batches = input_batches(data.calibration_images(calibration_images), record.architecture["resolution"], BATCH_SIZE)
    return cut_subnet(supernet, record.architecture, batches)


def network_pixels(data: Any, count: int, side: int) -> Array:
    """Return the first `count` test images as network inputs (N, C, side, side)."""
    from supernets.training.images import network_input

    inputs: Array = network_input(data.test_images[:count], side).contiguous().numpy()
    return inputs


def run_on_this_machine(name: str, model: bytes, images_NCHW: Array) -> Array:
    """Return a model's outputs (N, classes) on this computer, by the runtime of its format."""
    from device_agents.devices import connect

    inputs = images_NCHW if name == "onnx" else np.ascontiguousarray(images_NCHW.transpose(0, 2, 3, 1))
    with connect("local", runtime=RUNTIME_OF[name]) as agent:
        return agent.run(model, inputs)


def _checked(name: str, content: bytes, reference: Array, outputs: Array) -> ExportedModel:
    difference = float(np.abs(outputs - reference).max() / np.abs(reference).max())
    if not difference <= TOLERANCE:
        raise ExportCheckError(
            f"the exported {name} model differs from the supernet by {difference:.2g} of its largest output; expected at most {TOLERANCE:g}; "
            f"nothing was written; please report it with the architecture"
        )
    same = float(np.mean(outputs.argmax(1) == reference.argmax(1)))
    digest = hashlib.sha256(content).hexdigest()
    return ExportedModel(name, f"subnet.{name}", digest, len(content), len(reference), difference, same)
