"""Accuracies that a search measures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from luts.store import MeasurementStore
from profiler.evaluating import CalibratedChildren
from supernets.spaces import space

pytestmark = pytest.mark.torch


def test_images_are_opened_once_for_all_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    tiny, opened, shown = space("ofa-mobilenetv3-tiny"), [], []

    def evaluate(own: Any, weights: Path, images: object, architectures: list[Any], *others: Any, device: str) -> list[Any]:
        shown.append(images)
        return [SimpleNamespace(top1=0.5) for _ in architectures]

    monkeypatch.setattr("supernets.training.data.open_images", lambda spec: opened.append(spec) or object())
    monkeypatch.setattr("profiler.accuracy.evaluate_architectures", evaluate)
    with MeasurementStore(tmp_path / "accuracies.db") as store:
        children = CalibratedChildren(tiny, tmp_path / "weights", "folder", 8, 8, store, 1)
        population = tiny.sample_different(3, np.random.default_rng(0))
        assert not len(children.predict(population[:0])) and opened == []
        assert [children.predict(population).tolist() for _ in range(3)] == [[0.5] * 3] * 3
    assert opened == ["folder"] and len(shown) == 3 and len(set(map(id, shown))) == 1
