"""Model files of blocks and networks: made when a worker needs them, each once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from supernets.blocks import BlockSpec

ModelMaker: TypeAlias = Callable[[Sequence[BlockSpec]], bytes]
WeightedModelMaker: TypeAlias = Callable[[Sequence[BlockSpec], Mapping[str, Any]], bytes]

KEPT_BYTES = 1 << 30  # of made models, for later rounds; what is above is made again, at about 10 ms a block


WRITERS = {
    "float32": {
        "onnx": "supernets.export.onnx_graph:onnx_model",
        "tflite": "supernets.export.tflite_graph:tflite_model",
        "torch": "supernets.export.torch_program:torch_model",
    },
    "int8": {
        "onnx": "supernets.export.quantized_onnx:quantized_onnx_model",
        "tflite": "supernets.export.quantized_tflite:quantized_tflite_model",
    },
}
# precision of a condition → that of its model files; what computes in less than float32 makes that of a float32 file itself
FILES_OF = {"float32": "float32", "float16": "float32", "bfloat16": "float32", "int8": "int8"}


def default_model_maker(model_format: str, batch: int = 1, precision: str = "float32") -> ModelMaker:
    """Return the maker of model files with random weights in an agent's format and precision; it imports its writer when first used.

    Raises:
        ValueError: no writer makes that format in that precision.
    """
    return partial(_random_model, weighted_model_maker(model_format, batch, precision))


def weighted_model_maker(model_format: str, batch: int = 1, precision: str = "float32") -> WeightedModelMaker:
    """Return the maker of model files to be timed, of blocks and their folded weights; see `default_model_maker`.

    Activation ranges of int8 come from fixed random inputs: how long integers take does not depend on their values.
    """
    writer = writer_of(model_format, precision)
    return partial(_int8_model if file_precision(precision) == "int8" else _float_model, writer, batch)


def writer_of(model_format: str, precision: str = "float32") -> Callable[..., bytes]:
    """Return the function that writes blocks as a model file, which is imported when first called.

    Raises:
        ValueError: no writer makes that format in that precision.
    """
    writers = WRITERS[file_precision(precision)]
    if model_format not in writers:
        raise ValueError(f"model format {model_format!r} is unknown in precision {precision}; expected one of {', '.join(writers)}")
    return partial(_written, writers[model_format])


def file_precision(precision: str) -> str:
    """Return the precision of the model files that are measured under a condition's precision.

    Raises:
        ValueError: no model files are made for that precision.
    """
    if precision not in FILES_OF:
        raise ValueError(f"precision {precision!r} is unknown; expected one of {', '.join(FILES_OF)}")
    return FILES_OF[precision]


def _written(writer: str, *arguments: object) -> bytes:
    module, _, function = writer.partition(":")
    model: bytes = getattr(importlib.import_module(module), function)(*arguments)
    return model


def _random_model(maker: WeightedModelMaker, blocks: Sequence[BlockSpec]) -> bytes:
    from supernets.export.weights import random_folded_weights

    return maker(blocks, random_folded_weights(blocks))


def _float_model(writer: Callable[..., bytes], batch: int, blocks: Sequence[BlockSpec], weights: Mapping[str, Any]) -> bytes:
    return writer(blocks, weights, batch)


def _int8_model(writer: Callable[..., bytes], batch: int, blocks: Sequence[BlockSpec], weights: Mapping[str, Any]) -> bytes:
    from supernets.export.quantized_inputs import random_inputs

    return writer(blocks, weights, random_inputs(blocks, batch), batch)


class LazyModels(Mapping[str, bytes]):
    """Name → model file, made at its first use; the first gigabyte is kept."""

    def __init__(self, makers: Mapping[str, Callable[[], bytes]]) -> None:
        self._makers = makers
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0

    def __getitem__(self, name: str) -> bytes:
        if name in self._kept:
            return self._kept[name]
        model = self._makers[name]()
        if self._kept_bytes + len(model) <= KEPT_BYTES:
            self._kept[name] = model
            self._kept_bytes += len(model)
        return model

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
