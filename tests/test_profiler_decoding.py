"""Images that are decoded first: every command that has a bar tells of it, and a run has a stage of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profiler.pipeline import RunSettings
from supernets.spaces import space

pytestmark = pytest.mark.torch
TINY = "ofa-mobilenetv3-tiny"


class Opened(Exception):
    """Images were opened."""


def opened(spec: str, *, progress: Callable[[int, int], None]) -> None:
    progress(256, 1000)
    raise Opened(spec)


@pytest.mark.parametrize("command", ["sample", "finetune", "export"])
def test_commands_tell_of_images_that_they_decode(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from profiler.exporting import export_from_files
    from profiler.finetuning import finetune_from_files
    from profiler.sampling import sample_into
    from profiler.shipped import shipped_weights

    monkeypatch.setattr("supernets.training.data.open_images", opened)
    (subnet := tmp_path / "subnet.json").write_text(json.dumps(space(TINY).smallest().to_dict()))
    weights, told = shipped_weights(TINY)[0], []  # type: ignore[index]
    calls: dict[str, Callable[[], Any]] = {
        "sample": lambda: sample_into(tmp_path / "a.db", weights, "folder", 1, 0, 1, 8, 8, None, lambda *now: told.append(now)),
        "finetune": lambda: finetune_from_files(subnet, None, "folder", tmp_path / "tuned", 1, report=lambda *now: told.append(now)),
        "export": lambda: export_from_files(subnet, None, "folder", tmp_path / "out", ("onnx",), 8, 8, progress=lambda *now: told.append(now)),
    }
    with pytest.raises(Opened, match="folder"):
        calls[command]()
    assert told == [(256, 1000) if command == "export" else (256, 1000, "decoding images")]


class Noting:
    """A display that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        self.told.append((number, name))
        yield lambda done, total, note: self.told.append((done, total, note))
        self.told.append("end")

    def say(self, text: str) -> None:
        self.told.append(text)


def test_a_run_has_a_stage_of_images_only_where_it_decodes_some(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("PIL.Image")
    from profiler.stages import run
    from tests.test_supernets_training_image_cache import photographs

    images = f"{photographs(tmp_path / 'photographs')}:side=16,cache={tmp_path / 'decoded'}"
    settings, first, second = RunSettings(TINY, tmp_path / "run", device="simulated", images=images), Noting(), Noting()
    for display in (first, second):
        with pytest.raises(ValueError, match="takes 1 channels and tells 10 classes, images .* have 3 and 2"):
            run(settings, display)
    assert first.told == [(0, "images"), (12, 24, "decoding images"), (24, 24, "decoding images"), f"decoded: {images}", "end"]
    assert second.told == []
