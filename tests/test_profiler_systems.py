"""The four systems as data, and each of them whole on the simulated device, with as little training as there can be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profiler.pipeline import PRESETS, RunSettings
from profiler.report.system import BlockBranches, MergedTiming, branches_sentence, timings_sentence
from profiler.subnet import SubnetFileError, finalist_accuracy, record_of
from profiler.systems import CHILDREN, PREDICTED, PROXY, STAGES, SYSTEMS, TRAINING, System, UnknownSystemError, system
from search.rewards import OBJECTIVES
from search.settings import SearchSettings
from search.strategies import STRATEGIES
from supernets.spaces import space as search_space


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_names_what_there_is(name: str) -> None:
    pytest.importorskip("torch")
    from supernets.training.recipes import RECIPES

    own = system(name)
    assert own.name == name and set(own.sizes) == {"tiny", "imagenet"}
    for size in own.sizes.values():
        assert search_space(size.space).size() > 1
        assert (size.recipe in RECIPES) == own.trains
    assert (own.strategy or "random") in STRATEGIES and (own.objective or "budget") in OBJECTIVES


def test_each_system_has_its_stages_and_no_others() -> None:
    left_out = {name: [stage for stage in STAGES if stage not in own.stages] for name, own in SYSTEMS.items()}
    assert left_out == {
        "ofa": ["retrain", "branches"],
        "bignas": ["sample", "retrain", "branches"],
        "mnasnet": ["train", "sample", "branches"],
        "repnas": ["sample", "search", "retrain"],
    }
    assert {name: own.accuracy for name, own in SYSTEMS.items()} == {"ofa": PREDICTED, "bignas": CHILDREN, "mnasnet": PROXY, "repnas": TRAINING}


def test_an_unknown_system_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownSystemError, match="unknown system 'darts'; known systems: ofa, bignas, mnasnet, repnas"):
        RunSettings(None, tmp_path, system="darts")


def test_a_system_either_searches_or_learns_its_network_while_training() -> None:
    with pytest.raises(ValueError, match="expected both of the first two, or neither where training chooses"):
        System("x", "X", {}, accuracy=TRAINING, strategy="evolution", objective="budget")
    with pytest.raises(ValueError, match="accuracy of system 'x' is 'guessed'"):
        System("x", "X", {}, accuracy="guessed")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"system": "repnas", "strategy": "random"}, "searches while it trains"),
        ({"system": "repnas", "objective": "budget"}, "searches while it trains"),
        ({"system": "mnasnet", "weights": Path("w.safetensors")}, "each network is trained alone"),
        ({"system": "mnasnet", "recipe": "small"}, "each network is trained alone"),
        ({"strategy": "luck"}, "strategy is 'luck'; expected one of coarse-to-fine, evolution"),
        ({"objective": "fame"}, "objective is 'fame'; expected one of absolute-deviation, budget"),
        ({"latency": "guess"}, "latency is 'guess'; expected one of lut, device"),
        ({"system": "repnas", "latency": "device"}, "latency 'device' was given, but system 'repnas' searches while it trains"),
        ({"system": "bignas", "samples": 60}, "60 samples were asked for, but system 'bignas' fits no accuracy predictor"),
        ({"recipe": "small"}, "recipe 'small' was given, but nothing is trained, as weights come with the package; add --train"),
        ({"system": "bignas", "recipe": "small", "weights": Path("w")}, "recipe 'small' was given, but nothing is trained, as weights are given"),
    ],
)
def test_what_a_system_does_not_do_is_refused(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RunSettings(None, tmp_path, **asked)


def test_a_run_takes_the_systems_space_recipe_and_search_unless_told_otherwise(tmp_path: Path) -> None:
    own = RunSettings(None, tmp_path, system="bignas")
    assert (own.size.space, own.size.recipe, own.what.strategy, own.what.objective) == ("bignas-tiny", "bignas-small", "coarse-to-fine", "budget")
    large = RunSettings(None, tmp_path, system="bignas", preset="imagenet")
    assert (large.size.space, large.size.recipe, large.size.images) == ("bignas", "bignas", "")
    asked = RunSettings("ofa-proxyless-tiny", tmp_path, system="bignas", recipe="small", strategy="random", objective="soft-product")
    assert (asked.size.space, asked.size.recipe, asked.what.strategy, asked.what.objective) == (
        "ofa-proxyless-tiny", "small", "random", "soft-product",
    )  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"system": "bignas", "space": "repnas-tiny"}, "has branches to choose, which only system 'repnas' does, and the run is of system 'bignas'"),
        ({"system": "repnas", "space": "bignas-tiny"}, "has no branches for a system to choose, and the run is of system 'repnas'"),
        ({"system": "bignas", "space": "bignas-tiny:classes=5", "images": None}, "of space 'bignas-tiny:classes=5', and no images come with"),
        ({"system": "bignas", "space": "bignas-tiny", "recipe": "repnas-small"}, "has no branches to choose, recipe 'repnas-small' trains some"),
        ({"system": "bignas", "preset": "imagenet", "space": None, "images": None}, "of space 'bignas', and no images come with"),
    ],
)
def test_spaces_images_and_recipes_that_do_not_fit_are_refused_before_anything_is_measured(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    pytest.importorskip("torch")
    from profiler.stages import run

    shown = Quiet()
    with pytest.raises(ValueError, match=said):
        run(RunSettings(out=tmp_path / "run", device="simulated", **{"images": "fashion-mnist-subset", **asked}), shown)
    assert not shown.said


def test_finalists_know_their_accuracy_from_where_it_was_measured_best() -> None:
    assert finalist_accuracy({"predicted_accuracy": 0.9, "proxy_accuracy": 0.5, "measured_accuracy": 0.7}) == 0.7
    assert finalist_accuracy({"predicted_accuracy": 0.9, "proxy_accuracy": 0.5}) == 0.5
    space = search_space("mnasnet-tiny")
    record = record_of(space.smallest())
    with pytest.raises(SubnetFileError, match="predicted_accuracy is None"):
        record.changed(finalists=({"architecture": space.smallest().to_dict(), "predicted_latency_ms": 1.0},))
    with pytest.raises(SubnetFileError, match="proxy_accuracy is 85"):
        record.changed(finalists=({"architecture": space.smallest().to_dict(), "predicted_latency_ms": 1.0, "proxy_accuracy": 85},))


def test_a_report_says_which_branches_were_kept_and_whether_latency_depends_on_them() -> None:
    kept = (BlockBranches("stem", ("branch_kxk",), ("branch_1x1", "branch_kxk")), BlockBranches("a", ("branch_kxk", "branch_1xk"), ("x",) * 6))
    assert branches_sentence(kept) == "3 of 8 branches were kept in 2 blocks; branch_kxk most often, 2 times."

    def timings(*latencies_ms: float) -> tuple[MergedTiming, ...]:
        return tuple(MergedTiming(name, n, ms, 0.01, 10) for name, n, ms in zip("abc", (3, 8, 3), latencies_ms, strict=True))

    assert "does not depend on the branches: merged from 8 branches" in timings_sentence(timings(1.0, 1.01, 0.995))
    assert "differs between the files" in timings_sentence(timings(1.0, 1.2, 1.01))
    assert "does not depend" in timings_sentence(timings(1.0, 1.1, 1.08))  # equal files differ as much


class Quiet:
    """A display that keeps what is said of each stage."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self._name = ""

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Note the stage's name."""
        self._name = name
        yield lambda done, total, note: None

    def say(self, text: str) -> None:
        """Keep the text."""
        self.said[self._name] = text


class Interrupting(Quiet):
    """A display that stops a run in one of its stages, as Ctrl-C would, at the first progress that is told."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stopped = stage

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Note the stage's name; its report stops the stage that is to be stopped."""
        self._name = name

        def report(done: int, total: int, note: str) -> None:
            if name == self._stopped and done:
                raise KeyboardInterrupt

        yield report


@pytest.fixture
def least(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Have presets and recipes do as little as they can; returns the place of a few images."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("matplotlib")
    from supernets.training import recipes, repnas, sandwich
    from supernets.training.data import open_images
    from supernets.training.data_files import write_npz

    searches = {
        CHILDREN: SearchSettings(population_size=6, generations=2, finalists=2),
        PROXY: SearchSettings(population_size=2, generations=1, finalists=2),
    }
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], validation_images=60, calibration_images=60, finalists=2, searches=searches,
                                                 proxy_epochs=0.5, full_epochs=1))  # fmt: skip
    monkeypatch.setitem(recipes.RECIPES, "bignas-small", lambda: replace(sandwich.small(1), batch_size=60))
    monkeypatch.setitem(recipes.RECIPES, "repnas-small", lambda: replace(repnas.small((1, 1, 1)), batch_size=60))
    data = open_images("fashion-mnist-subset")
    parts = {"train": 120, "validation": 60, "test": 60}
    arrays = {f"{part}_{kind}": getattr(data, f"{part}_{kind}")[:count] for part, count in parts.items() for kind in ("images", "labels")}
    write_npz(tmp_path / "few.npz", arrays, data.class_names)
    return str(tmp_path / "few.npz")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(900)  # seconds where nothing else runs
@pytest.mark.parametrize(("name", "stopped"), [("bignas", "search"), ("mnasnet", "search"), ("repnas", "train")])
def test_a_system_runs_whole_on_the_simulated_device_stopped_in_between_and_does_nothing_twice(
    name: str, stopped: str, least: str, tmp_path: Path
) -> None:
    from profiler.stages import run

    settings = RunSettings(None, tmp_path / "run", system=name, device="simulated", preset="tiny", images=least, workers=1)
    interrupted = Interrupting(stopped)
    with pytest.raises(KeyboardInterrupt):
        run(settings, interrupted)
    assert list(interrupted.said) == list(SYSTEMS[name].stages[: SYSTEMS[name].stages.index(stopped)])
    shown = Quiet()
    result = run(settings, shown)
    assert tuple(shown.said) == SYSTEMS[name].stages
    record = result.record
    assert [model.format for model in record.models] == ["onnx", "tflite"]
    assert record.verifications[0].origin == "simulated" and record.measured_accuracy_images == 60
    assert (record.search or {}).get("strategy", "") == SYSTEMS[name].strategy
    page = (tmp_path / "run" / "report.html").read_text()
    assert SYSTEMS[name].title in page and ("Pareto set" in page) == bool(SYSTEMS[name].strategy)
    if name == "mnasnet":
        assert all("proxy_accuracy" in finalist for finalist in record.finalists) and record.max_latency_ms is None
    if name == "repnas":
        proof = json.loads((tmp_path / "run" / "branches.json").read_text())["timings"]
        kept = proof[0]["branches"]  # 15, and one K x K more for each block that would have none
        assert 15 <= kept < 24 and [timing["branches"] for timing in proof] == [kept, 45, kept] and len({timing["bytes"] for timing in proof}) == 1
        assert proof[1]["latency_ms"] == pytest.approx(proof[0]["latency_ms"], rel=0.05)

    again = Quiet()
    once_more = run(settings, again)
    assert once_more.record == record
    assert np.array_equal([v.measured_latency_ms for v in once_more.record.verifications], [v.measured_latency_ms for v in record.verifications])
