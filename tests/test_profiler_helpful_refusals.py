"""What users get wrong about images, resolutions, searches and predictors: each is told with the cure, before hours of work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from luts.store import StoreError
from predictors import accuracy, latency
from profiler.cli.app import app
from profiler.collecting import narrowed
from profiler.pipeline import RunSettings
from profiler.searching import open_predictors
from profiler.signed import signed_percent
from supernets.spaces import parse_resolutions, space

TINY = "ofa-mobilenetv3-tiny"


@pytest.fixture
def colour(tmp_path: Path) -> str:
    """Images in colour, of two classes."""
    parts: dict[str, Any] = {}
    for part, count in (("train", 20), ("test", 6)):
        parts[f"{part}_images"] = np.zeros((count, 28, 28, 3), dtype=np.uint8)
        parts[f"{part}_labels"] = np.arange(count) % 2
    np.savez(tmp_path / "colour.npz", **parts)
    return str(tmp_path / "colour.npz")


@pytest.mark.torch
def test_export_refuses_images_of_another_kind_in_one_sentence(colour: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (subnet := tmp_path / "subnet.json").write_text(json.dumps(space(TINY).smallest().to_dict()))
    result = CliRunner().invoke(app, ["export", "--subnet", str(subnet), "--images", colour, "--out", str(tmp_path / "out")])
    said = f"have 3 channels and 2 classes, but networks of space '{TINY}' expect 1 and 10; give the images the weights were trained on"
    assert isinstance(result.exception, ValueError) and said in str(result.exception) and not (tmp_path / "out").exists()


@pytest.mark.torch
@pytest.mark.parametrize(("system", "more", "said"), [
    ("bignas", {}, "give a space for these images, --space bignas-tiny:image_channels=3,classes=2"),
    ("bignas", {"space": "bignas-tiny:resolutions=20/24,classes=4"}, "--space bignas-tiny:resolutions=20/24,image_channels=3,classes=2"),
    ("ofa", {"train": True}, f"--space {TINY}:image_channels=3,classes=2"),
    ("ofa", {}, f"--space {TINY}:image_channels=3,classes=2 and --train, as no weights come for that"),
    ("bignas", {"images": None, "space": "bignas-tiny:image_channels=3"}, "give a folder of images or an .npz file with --images"),
])  # fmt: skip
def test_a_run_names_the_space_for_images_of_another_kind(colour: str, tmp_path: Path, system: str, more: dict[str, Any], said: str) -> None:
    pytest.importorskip("torch")
    from profiler.stages import run

    settings = RunSettings(**{"space": None, "out": tmp_path / "run", "system": system, "device": "simulated", "images": colour, **more})
    with pytest.raises(ValueError) as caught:
        run(settings, SimpleNamespace())  # type: ignore[arg-type]
    assert str(caught.value).endswith(said)


@pytest.mark.torch
def test_a_budget_that_no_network_keeps_is_told_after_the_measuring_and_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from profiler.cli.run import Terminal
    from profiler.stages import run
    from search.objectives import BudgetError

    settings = RunSettings(None, tmp_path / "run", device="simulated", preset="tiny", max_latency_ms=1e-6)
    for _ in range(2):
        with pytest.raises(BudgetError, match="keeps a latency budget of 1e-06 ms: the lowest reachable latency is"):
            run(settings, Terminal())
        monkeypatch.delattr("profiler.choice_stages.fit_latency", raising=False)  # the second time, nothing is fitted anew
    assert not (tmp_path / "run" / "accuracies.db").exists()


@pytest.mark.torch
def test_a_run_with_weights_of_its_own_asks_for_their_images(colour: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from profiler.shipped import shipped_weights
    from profiler.stages import run

    weights, _ = shipped_weights(TINY)  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"have 3 and 2; give the images that weights .* were trained on$"):
        run(RunSettings(None, tmp_path / "run", device="simulated", images=colour, weights=weights), SimpleNamespace())  # type: ignore[arg-type]


def test_resolutions_that_a_space_lacks_are_told_with_those_it_has() -> None:
    with pytest.raises(ValueError) as caught:
        narrowed(space(TINY), "24/40/44")
    assert str(caught.value) == f"--resolutions '24/40/44' asks for 40/44, which space '{TINY}' lacks; expected some of 20/24/28/32"
    assert narrowed(space(TINY), "24").largest()["resolution"] == 24


@pytest.mark.parametrize("text", ["28:20:4", "28:20", "30:20:4"])
def test_resolutions_whose_last_is_below_the_first_are_told_so(text: str) -> None:
    first, last = text.split(":")[:2]
    with pytest.raises(ValueError, match=rf"given as .{text}., whose last side, {last}, is below the first, {first}; expected the smaller"):
        parse_resolutions(text)


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a latency and an accuracy predictor; the latencies are of a device that is not at hand."""
    pytest.importorskip("sklearn")
    from tests.store_contract import CONDITION

    population = space(TINY).sample_population(40, np.random.default_rng(0))
    line = latency.create("flops_line", space(TINY)).fit(population, np.linspace(1, 2, 40))
    line.condition = CONDITION
    line.save(tmp_path / "line")
    accuracy.create("ridge", TINY).fit(population, np.linspace(0.5, 0.6, 40)).save(tmp_path / "ridge")
    return tmp_path / "line", tmp_path / "ridge"


def test_a_search_that_cannot_be_is_refused_before_it_begins(fitted: tuple[Path, Path]) -> None:
    line, ridge = fitted
    with pytest.raises(ValueError, match=r"has 1,601,914,103,244 networks, and an exhaustive search takes 1,000,000 at most; restrict it"):
        open_predictors(None, line, ridge, strategy="exhaustive")
    with pytest.raises(StoreError, match="were predicted for device '.*', not for 'simulated'; give --device"):
        open_predictors(None, line, ridge, strategy="evolution", device="simulated")
    own = latency.load(line).condition
    assert own is not None and open_predictors(None, line, ridge, strategy="evolution", device=own.device).condition == own.to_dict()


def test_search_tells_its_strategy_and_device_to_what_refuses_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told(*facts: Any) -> None:
        raise ValueError(facts[-2:])

    monkeypatch.setattr("profiler.searching.open_predictors", told)
    arguments = ["search", "--accuracy", str(tmp_path), "--table", "a.lut", "--max-latency-ms", "1", "--out", str(tmp_path / "s.json")]
    result = CliRunner().invoke(app, [*arguments, "--strategy", "exhaustive", "--device", "simulated"])
    assert str(result.exception) == str(("exhaustive", "simulated"))


@pytest.mark.torch
def test_a_run_with_an_exhaustive_search_of_too_large_a_space_is_refused_before_it_measures(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = CliRunner().invoke(app, ["run", "--device", "simulated", "--strategy", "exhaustive", "--out", str(tmp_path / "run")])
    assert "an exhaustive search takes 1,000,000 at most" in str(result.exception) and not (tmp_path / "run").exists()


def test_a_predictor_of_the_other_family_is_answered_with_a_command(fitted: tuple[Path, Path], tmp_path: Path) -> None:
    line, _ = fitted
    arguments = ["search", "--latency", str(line), "--max-latency-ms", "1", "--out", str(tmp_path / "s.json"), "--accuracy"]
    other = CliRunner().invoke(app, [*arguments, str(line)])
    assert str(other.exception).endswith("holds a predictor of latency, not of accuracy; give a folder that `profiler fit accuracy` wrote")
    none = CliRunner().invoke(app, [*arguments, str(tmp_path / "nothing")])
    assert str(none.exception).endswith("there is no predictor.json in it; `profiler fit accuracy` writes one")


@pytest.mark.parametrize(("share", "text"), [(-0.0004, "+0.0%"), (0.0004, "+0.0%"), (-0.0, "+0.0%"), (-0.0006, "-0.1%"), (0.0512, "+5.1%")])
def test_what_rounds_to_zero_has_no_minus(share: float, text: str) -> None:
    assert signed_percent(share) == text


def test_a_verification_that_is_off_by_nothing_shows_no_minus() -> None:
    from profiler.cli.tables import _off

    assert _off(SimpleNamespace(predicted_latency_ms=0.99999, measured_latency_ms=1.0)) == "+0.0%"  # type: ignore[arg-type]
