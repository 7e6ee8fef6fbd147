"""`profiler run --preset imagenet` of each system, on its large space and a few images, up to the training; and images that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiler.cli.app import app
from profiler.pipeline import PRESETS, RunSettings
from profiler.systems import PROXY, SYSTEMS
from search.settings import SearchSettings

pytestmark = pytest.mark.torch
BATCH = 4


class Trained(Exception):
    """A step of training was made."""


class UntilTrained:
    """A display that ends a run at the first step of training: of the supernet, or of networks for a search."""

    def __init__(self, stage: str) -> None:
        self.stages: list[str] = []
        self._last = stage

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Note the stage's name."""
        self.stages.append(name)

        def report(done: int, total: int, note: str) -> None:
            if name == self._last and done:
                raise Trained(note)

        yield report

    def say(self, text: str) -> None:
        """Say nothing."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Have the preset and its recipes do as little as they can; returns what to give as images."""
    pytest.importorskip("torch")
    pytest.importorskip("PIL.Image")
    pytest.importorskip("onnx")
    from supernets.training import recipes, static
    from tests.test_supernets_training_image_cache import photographs

    proxies = {**PRESETS["imagenet"].searches, PROXY: SearchSettings(population_size=2, generations=1, finalists=2)}
    little = replace(PRESETS["imagenet"], protocol="quick", validation_images=4, calibration_images=8, searches=proxies, proxy_epochs=0.1)
    monkeypatch.setitem(PRESETS, "imagenet", little)
    for name in {system.sizes["imagenet"].recipe for system in SYSTEMS.values()} - {""}:
        monkeypatch.setitem(recipes.RECIPES, name, partial(replace, recipes.recipe(name), batch_size=BATCH))
    proxy = static.imagenet_proxy
    monkeypatch.setattr(static, "imagenet_proxy", lambda epochs: replace(proxy(epochs), batch_size=BATCH))
    photographs(tmp_path / "photographs", each=12, classes=4)
    return f"{tmp_path / 'photographs'}:side=224,cache={tmp_path / 'decoded'}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_of_imagenets_size_measures_and_trains(system: str, few: str, tmp_path: Path) -> None:
    from profiler.stages import run

    own = SYSTEMS[system]
    space = f"{own.sizes['imagenet'].space}:classes=4"
    settings = RunSettings(
        space, tmp_path / "run", system=system, device="simulated", preset="imagenet", images=few, workers=1, train=own.trains,
        resolutions="224",
    )  # fmt: skip
    display = UntilTrained("train" if own.trains else "search")
    with pytest.raises(Trained, match="loss [0-9]" if own.trains else None):
        run(settings, display)
    assert display.stages[-1] == ("train" if own.trains else "search") and (tmp_path / "decoded" / "images.json").is_file()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("images", "said"), [
    (None, "and no images come with the space; give a folder of images or an .npz file with --images"),
    ("nowhere/imagenet", "images 'nowhere/imagenet' were not found"),
    ("nowhere/imagenet:side=224,cache=kept", "images 'nowhere/imagenet' were not found"),
    ("fashion-mnist-subset", "takes 3 channels and tells 1000 classes, images 'fashion-mnist-subset' have 1 and 10"),
])  # fmt: skip
def test_images_that_are_missing_are_told_in_one_line_before_anything_is_measured(system: str, images: str | None, said: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    given = [] if images is None else ["--images", images]
    train = ["--train"] if SYSTEMS[system].trains else []
    arguments = ["run", "--system", system, "--preset", "imagenet", "--device", "simulated", "--out", str(tmp_path / "run"), *train, *given]
    result = CliRunner().invoke(app, arguments)
    text = f"{result.output}{result.exception}"
    assert result.exit_code != 0 and said in text, text
    assert len(str(result.exception).splitlines()) == 1 and not list((tmp_path / "run").glob("*.lut"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_training_device_that_is_none_is_told_before_anything_is_measured(system: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    arguments = ["run", "--system", system, "--preset", "tiny", "--device", "simulated", "--out", str(tmp_path / "run"), "--training-device", "tpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0 and str(result.exception) == "device 'tpu' is unknown to training; expected cpu or cuda"
    assert not list((tmp_path / "run").glob("*.lut"))
