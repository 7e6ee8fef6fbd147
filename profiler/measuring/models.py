"""Model files of blocks and networks: made when a worker needs them, each once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from supernets.blocks import BlockSpec

ModelMaker: TypeAlias = Callable[[Sequence[BlockSpec]], bytes]

KEPT_BYTES = 1 << 30  # of made models, for later rounds; what is above is made again, at about 10 ms a block


WRITERS = {"onnx": "supernets.export.onnx_graph:onnx_model", "tflite": "supernets.export.tflite_graph:tflite_model"}


def default_model_maker(model_format: str, batch: int = 1) -> ModelMaker:
    """Return the maker of model files with random weights in an agent's format; it imports its writer when first used.

    Raises:
        ValueError: no writer makes that format.
    """
    if model_format not in WRITERS:
        raise ValueError(f"model format {model_format!r} is unknown; expected one of {', '.join(WRITERS)}")
    return partial(_random_model, WRITERS[model_format], batch)


def _random_model(writer: str, batch: int, blocks: Sequence[BlockSpec]) -> bytes:
    from supernets.export.weights import random_folded_weights

    module, _, function = writer.partition(":")
    model: bytes = getattr(importlib.import_module(module), function)(blocks, random_folded_weights(blocks), batch)
    return model


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
