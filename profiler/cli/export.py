"""`profiler export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import MOST_IMAGES_A_RUN, AsJson, Images, Weights, folder_to_write, typed


def command(
    subnet: Annotated[Path, typer.Option("--subnet", help="Subnet file of `profiler search`, or a plain architecture (space, values).")],
    out: Annotated[Path, typer.Option("--out", callback=folder_to_write, help="Folder for the models and the subnet file.")],
    weights: Weights = None,
    images: Images = "fashion-mnist-subset",
    formats: Annotated[str, typer.Option("--formats", help="Model formats to write, such as onnx, or onnx,tflite,torch.")] = "onnx,tflite",
    calibration_images: Annotated[int, typer.Option(min=1, help="Training images that the norm statistics are measured on.")] = 2048,
    check_images: Annotated[int, typer.Option(min=1, help="Images on which each model is compared with the supernet.")] = 256,
    precision: Annotated[str, typer.Option("--precision", help="float32, or int8 for int8 models beside the float ones.")] = "float32",
    range_images: Annotated[int, typer.Option(min=1, help="Training images whose activations set the ranges of int8.")] = 256,
    accuracy_images: Annotated[int, typer.Option(min=1, help="Test images on which int8 is set beside float32.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, max=MOST_IMAGES_A_RUN, help="Images that a model takes at a time.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Cut a subnet out of a supernet and write it as ONNX and TFLite, checked against the supernet on real images.

    \b
    Example: profiler export --subnet subnet.json --weights supernet.safetensors --out exported/
    """
    from profiler.cli.output import print_json, print_table, progress_bar, say
    from profiler.exporting import export_from_files, parse_formats, parse_precision

    with typed():
        wanted = parse_formats(formats, parse_precision(precision))
    with progress_bar("exporting") as report:
        record = export_from_files(
            subnet, weights, images, out, wanted, calibration_images, check_images, precision, range_images, accuracy_images, batch,
            lambda done, total: report(done, total, "decoding images"),
        )  # fmt: skip
    if as_json:
        print_json(record.to_dict())
        return
    print_table(
        "Exported models",
        ("model", "bytes", "largest difference / largest output", "same best class", "images"),
        [(out / m.file, m.bytes, f"{m.relative_difference:.1e}", f"{m.same_top1:.1%}", m.check_images) for m in record.models],
    )
    for m in record.models:
        if (accuracies := m.accuracies()) is not None:
            say(f"{m.file}: {accuracies}")
    say(f"the subnet file is {out / 'subnet.json'}; `profiler verify --subnet {out / 'subnet.json'}` measures the models on a device")
