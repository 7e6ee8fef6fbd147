"""The accuracy predictors that Once-for-All published: three hidden layers of 400 on the authors' own encodings, loaded, not fitted.

Two files are read: the tutorial's (`acc_predictor.pth`, 128 columns, MobileNetV3 at width 1.2) and the library's for ResNet50 (82
columns, the mean accuracy added). What they predict is the accuracy of the supernet's children, not tuned, on 10,000 images held
out of ImageNet's training set: about 4.8 points above that on its validation set. Between two resolutions that have a column the predictions
go linearly with the MACs, as the square of the side, which is how the authors filled theirs. Predicts with numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from predictors import folder
from predictors.accuracy.mlp import CHUNK_ROWS, Floats, Layers, _outputs
from predictors.base import AccuracyPredictor, missing_package
from predictors.ofa_encodings import RESNET_RESOLUTIONS, TUTORIAL_RESOLUTIONS
from predictors.population import Numbers, PopulationCheck
from supernets import spaces
from supernets.space import Choice, Population, SearchSpace

LAYERS = 4
KINDS: dict[str, tuple[str, int, tuple[int, ...]]] = {  # encoding → the spaces it is of, its columns, the resolutions among them
    "tutorial": ("ofa-mobilenetv3-w1.2", 128, TUTORIAL_RESOLUTIONS),
    "resnet": ("ofa-resnet50", 82, RESNET_RESOLUTIONS),
}
NAMES = {  # encoding → names of weight and bias of each layer in a file, "" for none
    "tutorial": [(f"{2 * i}.weight", f"{2 * i}.bias") for i in range(LAYERS)],
    "resnet": [*((f"layers.{i}.0.weight", f"layers.{i}.0.bias") for i in range(LAYERS - 1)), (f"layers.{LAYERS - 1}.weight", "")],
}
BASE = "base_acc"


class OfaMlpAccuracy(AccuracyPredictor):
    """A published predictor; `encoding` is `tutorial` or `resnet`. `from_file` reads one."""

    name: ClassVar[str] = "ofa-mlp"

    def __init__(self, space_name: str, encoding: str = "tutorial") -> None:
        super().__init__(space_name)
        self.encoding = encoding

    @classmethod
    def from_file(cls, path: str | Path, space_name: str | None = None) -> OfaMlpAccuracy:
        """Return the predictor of a file that torch wrote; of the whole space that it was published for, unless told otherwise.

        Raises:
            FileNotFoundError: there is no such file.
            PredictorFileError: a layer is missing, too much, or of another shape; or the file holds other things than tensors.
            ValueError: the predictor is not for that space.
            ImportError: torch, which reads the file, is not installed.
        """
        state = _read(path)
        encoding = "resnet" if BASE in state else "tutorial"
        predictor = cls(KINDS[encoding][0] if space_name is None else space_name, encoding)
        predictor._check_settings()
        predictor.layers_ = _layers(path, state, encoding)
        space = spaces.space(predictor.space_name)
        predictor._set_space(space, PopulationCheck(space))
        return predictor

    def _check_settings(self) -> None:
        if self.encoding not in KINDS:
            raise ValueError(f"encoding of accuracy predictor {self.name!r} is {self.encoding!r}; expected one of {', '.join(KINDS)}")
        wanted, _, resolutions = KINDS[self.encoding]
        bare, options = spaces.parse_name(self.space_name)
        sides = [float(value) for choice in spaces.space(self.space_name).choices if choice.kind == "resolution" for value in choice.values]
        if bare != wanted or options.classes not in (None, 1000) or options.image_channels not in (None, 3):
            raise ValueError(f"accuracy predictor {self.name!r} with encoding {self.encoding!r} is for space {wanted!r}, not {self.space_name!r}")
        if min(sides) < resolutions[0] or max(sides) > resolutions[-1]:
            raise ValueError(
                f"accuracy predictor {self.name!r} knows resolutions from {resolutions[0]} to {resolutions[-1]}; space {self.space_name!r} has "
                f"{min(sides):g} to {max(sides):g}"
            )

    def _fit(self, space: SearchSpace, population: Population, accuracies: Numbers) -> None:
        raise ValueError(f"accuracy predictor {self.name!r} is published and cannot be fitted; fit 'mlp', which is the same network, in its place")

    def _predict(self, population: Population) -> Numbers:
        predicted = np.empty(len(population))
        for start in range(0, len(population), CHUNK_ROWS):
            chunk = population[start : start + CHUNK_ROWS]
            below, above, share = self._neighbours(chunk)
            figures = self._at(chunk, below)
            between = share > 0
            if between.any():
                figures[between] += share[between] * (self._at(chunk[between], above[between]) - figures[between])
            predicted[start : start + CHUNK_ROWS] = np.clip(figures, 0.0, 1.0)
        return predicted

    def _neighbours(self, population: Population) -> tuple[Any, Any, Any]:
        """Return for each row the columns of the resolutions around its own, and how far it is on the way, in squares of the side."""
        known = np.array(KINDS[self.encoding][2], dtype=np.float64)
        choice = self.space_.choices[0]
        sides = np.array(choice.values, dtype=np.float64)[population[:, 0]]
        below = np.clip(np.searchsorted(known, sides, side="right") - 1, 0, len(known) - 1)
        above = np.minimum(below + 1, len(known) - 1)
        width = known[above] ** 2 - known[below] ** 2
        return below, above, np.where(width > 0, (sides**2 - known[below] ** 2) / np.maximum(width, 1), 0.0)

    def _at(self, population: Population, resolution_columns: Any) -> Numbers:
        resolutions = np.eye(len(KINDS[self.encoding][2]), dtype=np.float32)[resolution_columns]
        encode = _tutorial_columns if self.encoding == "tutorial" else _resnet_columns
        return _outputs(self.layers_, encode(self.space_, population, resolutions)).astype(np.float64)

    def _files(self) -> dict[str, bytes]:
        return {folder.ARRAYS_FILE: folder.packed_arrays({f"layer{i}": layer for i, layer in enumerate(self.layers_)})}

    def _restore(self, files: Mapping[str, bytes], space: SearchSpace) -> None:
        self._check_settings()
        arrays: dict[str, Any] = folder.unpacked_arrays(files[folder.ARRAYS_FILE])
        self.layers_: Layers = [arrays[f"layer{i}"] for i in range(len(arrays))]


def _tutorial_columns(space: SearchSpace, population: Population, resolutions: Floats) -> Floats:
    kinds = [_one_hot(population, space, choice) for kind in ("kernel_size", "expand_ratio") for choice in space.choices if choice.kind == kind]
    return np.concatenate([*kinds, resolutions], axis=1)


def _resnet_columns(space: SearchSpace, population: Population, resolutions: Floats) -> Floats:
    """Return the columns; of the stem's inner width two of the authors' three indices are one width, so it has the first and last."""
    inner = _one_hot(population, space, space.choices[space.position["stem.inner_width"]])
    kinds = [_one_hot(population, space, choice) for kind in ("width", "expand_ratio") for choice in space.choices if choice.kind == kind]
    middle = _one_hot(population, space, space.choices[space.position["stem.middle"]])
    return np.concatenate([resolutions, middle, np.insert(inner, 1, 0, axis=1), *kinds], axis=1)


def _one_hot(population: Population, space: SearchSpace, choice: Choice) -> Floats:
    codes = population[:, [space.position[choice.name]]]
    return np.asarray(codes == np.arange(len(choice.values), dtype=np.int8), dtype=np.float32)


def _read(path: str | Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        raise missing_package("reading a published accuracy predictor", "torch", "train") from None
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {str(path)!r} was not found; expected the weights of a published accuracy predictor")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content)
        return {str(name): tensor.detach().numpy().astype(np.float32) for name, tensor in content.items()}
    except Exception as error:  # pickle, zipfile and torch raise many kinds for a file that is none of torch's
        told = str(error).split("\n", 1)[0]
        raise folder.PredictorFileError(f"file {str(path)!r} cannot be read as plain tensors ({told}); expected a published predictor") from error


def _layers(path: str | Path, state: Mapping[str, Any], encoding: str) -> Layers:
    names = [name for pair in NAMES[encoding] for name in pair if name] + ([BASE] if encoding == "resnet" else [])
    missing, strange = [name for name in names if name not in state], [name for name in state if name not in names]
    if missing or strange:
        what = f"lacks the tensor {missing[0]!r}" if missing else f"holds the tensor {strange[0]!r}, which no published predictor has"
        raise folder.PredictorFileError(f"file {str(path)!r} {what}; expected {', '.join(names)}")
    layers: Layers = []
    inputs = KINDS[encoding][1]
    for number, (weight_name, bias_name) in enumerate(NAMES[encoding]):
        weight = state[weight_name]
        outputs = 1 if number == LAYERS - 1 else weight.shape[0] if weight.ndim else 0
        bias = state[bias_name or BASE]
        for name, tensor, shape in ((weight_name, weight, (outputs, inputs)), (bias_name or BASE, bias.reshape(-1), (outputs,))):
            if tensor.shape != shape or not np.isfinite(tensor).all():
                found = tuple(state[name].shape)
                raise folder.PredictorFileError(f"tensor {name!r} of file {str(path)!r} is of shape {found}; expected finite numbers of {shape}")
        layers += [np.ascontiguousarray(weight.T), bias.reshape(-1)]
        inputs = outputs
    return layers
