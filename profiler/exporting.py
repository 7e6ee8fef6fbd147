"""Export of one subnet: cut, calibrated, folded, written as ONNX and TFLite, and checked against the supernet on real images.

int8 models are judged, not checked: what they lose in accuracy is stated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from profiler.files import sha256_of
from profiler.measuring.models import WRITERS, writer_of
from profiler.shipped import weights_or_shipped
from profiler.subnet import ExportedModel, SubnetRecord, read_subnet, write_subnet
from supernets.atomic_file import write_whole

CHECKED_BY = {"onnx": "onnxruntime", "tflite": "litert", "torch": "torch"}  # what an exported model is run by, on this computer
USUAL_FORMATS = ("onnx", "tflite")  # exported where none is asked for
# Norms are folded and runtimes sum in another order: differences of float32 rounding, never more.
TOLERANCE = 1e-4
RANGE_IMAGES = 256  # training images, whose least and largest activations become the ranges of int8
MOST_BATCH_BYTES = 4 * 10**9  # of a model's input; far more images a time than any device takes at 224 pixels
CALL_BYTES = 500 * 10**6  # of images that a runtime is given together, if a batch is not more
ACCURACY_IMAGES = 2000  # test images, on which int8 is set beside float32
JUDGED_SEED = 0
Array = np.ndarray[Any, Any]


class ExportCheckError(RuntimeError):
    """An exported file does not compute what the supernet computes."""


def parse_precision(text: str) -> str:
    """Return the precision that models can be exported in.

    Raises:
        ValueError: another one.
    """
    if text not in WRITERS:
        raise ValueError(f"unknown export precision {text!r}; known precisions: {', '.join(WRITERS)}")
    return text


def parse_formats(text: str, precision: str = "float32") -> tuple[str, ...]:
    """Return the model formats in `onnx,tflite`, each once.

    Raises:
        ValueError: an unknown format, one that has no models of that precision, or none.
    """
    formats = tuple(dict.fromkeys(filter(None, text.split(","))))
    known = WRITERS[precision]
    unknown = [name for name in formats if name not in known]
    if unknown:
        raise ValueError(f"unknown export format {unknown[0]!r} of {precision} models; known formats: {', '.join(known)}")
    if not formats:
        raise ValueError(f"no export format was given; expected some of {', '.join(known)}")
    return formats


@dataclass(frozen=True)
class Quantisation:
    """What int8 models are made and judged by: training images for their activation ranges, test images with labels for accuracies."""

    range_images_NCHW: Array
    test_images_NCHW: Array
    test_labels: Array


def export_subnet(
    record: SubnetRecord,
    subnet: Any,
    folder: Path,
    check_images_NCHW: Array,
    run_model: Callable[[str, bytes, Array], Array],
    formats: Sequence[str] = USUAL_FORMATS,
    quantisation: Quantisation | None = None,
    batch: int = 1,
) -> SubnetRecord:
    """Write the subnet's models and its subnet file into `folder`; returns the record with the models in it.

    With `quantisation`, each model has an int8 one beside it; all take `batch` images at a time. What a device said of models
    exported before is left out: it said so of other files.

    `subnet` is a `supernets.export.subnet.Subnet`; `run_model(format, model, images_NCHW)` runs a model on a runtime.

    Raises:
        ExportCheckError: a model's outputs differ from the supernet's by more than float32 rounding; nothing is written.
        ValueError: a batch of images takes too much memory to check a model with.
    """
    import torch

    from supernets.export.weights import fold

    _refuse_large_batch(check_images_NCHW, batch)
    weights = fold(subnet.arrays(), subnet.blocks)
    reference = subnet.logits(torch.from_numpy(check_images_NCHW))
    contents: dict[str, bytes] = {}
    models = []
    for name in formats:
        run = partial(_run_in_batches, partial(run_model, name), batch)
        content = writer_of(name)(subnet.blocks, weights, batch)
        models.append(_checked(name, content, reference, run(content, check_images_NCHW), batch))
        contents[models[-1].file] = content
        if quantisation is not None:
            integers = writer_of(name, "int8")(subnet.blocks, weights, whole_batches(quantisation.range_images_NCHW, batch), batch)
            models.append(_quantised(name, integers, content, reference, run(integers, check_images_NCHW), quantisation, run, batch))
            contents[models[-1].file] = integers
    for file, content in contents.items():
        write_whole(folder / file, content)
    record = record.changed(models=tuple(models), verifications=())
    write_subnet(folder / "subnet.json", record)
    return record


def export_from_files(
    subnet_file: Path, weights: Path | None, images: str, folder: Path, formats: Sequence[str], calibration_images: int, check_images: int,
    precision: str = "float32", range_images: int = RANGE_IMAGES, accuracy_images: int = ACCURACY_IMAGES, batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SubnetRecord:  # fmt: skip
    """Export the subnet of a subnet file with the weights of a supernet file (None: those that come for its space); see `export_subnet`.

    Precision int8 writes an int8 model beside each float one. An accuracy that was measured with other weights is not
    carried over. `progress` is told how many images are decoded, where they are to be.

    Raises:
        ValueError, OSError: a file is missing or of another kind; the weights are of another space, the images of another kind.
    """
    from profiler.accuracy import refuse_other_images
    from supernets.networks.checkpoint import load_supernet
    from supernets.training.data import open_images

    record = read_subnet(subnet_file)
    weights = weights_or_shipped(weights, record.architecture.space)
    supernet = load_supernet(weights)
    weights_sha256 = sha256_of(weights)
    if record.weights_sha256 != weights_sha256:
        record = record.changed(weights_sha256=weights_sha256, measured_accuracy=None, measured_accuracy_images=None)
    data = open_images(images, progress=progress)
    refuse_other_images(supernet.space, data)
    subnet = cut(record, supernet, data, calibration_images)
    side = record.architecture["resolution"]
    quantisation = quantisation_of(data, side, range_images, accuracy_images) if precision == "int8" else None
    run_model = partial(run_on_this_machine, batch=batch)
    return export_subnet(record, subnet, folder, network_pixels(data, check_images, side), run_model, formats, quantisation, batch)


def quantisation_of(data: Any, side: int, range_images: int, accuracy_images: int) -> Quantisation:
    """Return as many training and test images of the image data as asked for (all, if there are fewer), drawn by a fixed seed."""
    from supernets.training.data import drawn
    from supernets.training.images import network_input

    judged = drawn(len(data.test_labels), accuracy_images, JUDGED_SEED)
    ranges, test = (network_input(images, side).contiguous().numpy() for images in (data.calibration_images(range_images), data.test_images[judged]))
    return Quantisation(ranges, test, data.test_labels[judged])


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


def _refuse_large_batch(images_NCHW: Array, batch: int) -> None:
    if (size := batch * images_NCHW[:1].nbytes) > MOST_BATCH_BYTES:
        raise ValueError(
            f"a batch of {batch} images of {images_NCHW.shape[-1]} pixels takes {size / 1e9:.1f} GB of memory to check a model with; "
            f"expected {MOST_BATCH_BYTES / 1e9:g} GB at most: export for a smaller --batch"
        )


def whole_batches(images_NCHW: Array, batch: int) -> Array:
    """Return the images, the first of them again and again at the end, so that they fill whole batches."""
    if not -len(images_NCHW) % batch:
        return images_NCHW
    return np.concatenate([images_NCHW, np.repeat(images_NCHW[:1], -len(images_NCHW) % batch, axis=0)])


def run_on_this_machine(name: str, model: bytes, images_NCHW: Array, batch: int = 1) -> Array:
    """Return a model's outputs (N, classes) for whole batches on this computer, by the runtime of its format."""
    from device_agents.devices import connect

    inputs = images_NCHW if name != "tflite" else np.ascontiguousarray(images_NCHW.transpose(0, 2, 3, 1))
    with connect("local", runtime=CHECKED_BY[name], settings={"batch": batch}) as agent:
        return agent.run(model, inputs)


def _run_in_batches(run_model: Callable[[bytes, Array], Array], batch: int, model: bytes, images_NCHW: Array) -> Array:
    """Return a model's outputs for all images, some batches at a time, as a runtime's process has copies of what it is given."""
    each = max(1, CALL_BYTES // (batch * images_NCHW[:1].nbytes)) * batch
    parts = (images_NCHW[first : first + each] for first in range(0, len(images_NCHW), each))
    return np.concatenate([run_model(model, whole_batches(part, batch))[: len(part)] for part in parts])


def _file_name(name: str, precision: str, batch: int) -> str:
    parts = ["subnet", *([] if precision == "float32" else [precision]), *([] if batch == 1 else [f"batch{batch}"]), name]
    return ".".join(parts)


def _checked(name: str, content: bytes, reference: Array, outputs: Array, batch: int) -> ExportedModel:
    difference = float(np.abs(outputs - reference).max() / np.abs(reference).max())
    if not difference <= TOLERANCE:
        raise ExportCheckError(
            f"the exported {name} model differs from the supernet by {difference:.2g} of its largest output; expected at most {TOLERANCE:g}; "
            f"nothing was written; please report it with the architecture"
        )
    return _described(name, content, reference, outputs, "float32", batch)


def _quantised(
    name: str, content: bytes, plain: bytes, reference: Array, outputs: Array, quantisation: Quantisation, run: Callable[[bytes, Array], Array],
    batch: int,
) -> ExportedModel:  # fmt: skip
    """Return the description of an int8 model, with its accuracy and that of the float model it was made of, on the same images."""
    images, labels = quantisation.test_images_NCHW, quantisation.test_labels
    after, before = (float(np.mean(run(model, images).argmax(1) == labels)) for model in (content, plain))
    described = _described(name, content, reference, outputs, "int8", batch)
    return replace(described, range_images=len(quantisation.range_images_NCHW), accuracy=after, float_accuracy=before, accuracy_images=len(labels))


def _described(name: str, content: bytes, reference: Array, outputs: Array, precision: str, batch: int) -> ExportedModel:
    difference = float(np.abs(outputs - reference).max() / np.abs(reference).max())
    same = float(np.mean(outputs.argmax(1) == reference.argmax(1)))
    digest, file = hashlib.sha256(content).hexdigest(), _file_name(name, precision, batch)
    return ExportedModel(name, file, digest, len(content), len(reference), difference, same, precision, batch=batch)
