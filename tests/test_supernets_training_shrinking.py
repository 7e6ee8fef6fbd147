# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.sorting import sorted_channels
from supernets.training import run as run_module
from supernets.training.loop import train
from supernets.training.phases import Phase, Recipe
from supernets.training.run import Run
from supernets.training.shrinking import FULL_RESNET, FULL_WIDTH, corners, imagenet
from supernets.training.validation import accuracy
from tests.test_supernets_training_loop import LARGEST, Stopped, columns, stop_at

pytestmark = pytest.mark.torch

SPACE = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"
RECIPE = Recipe(
    "judged", (Phase("full", 2, 0.05, LARGEST, ("largest",)), Phase("all", 1, 0.02, {"depth": (2,)}, ("random",))), batch_size=16, validation="epoch"
)


def test_corners_are_the_ends_of_every_kind_at_two_resolutions():
    space = spaces.space("ofa-mobilenetv3-w1.0")
    found = corners(space)
    assert len(found) == 2**4 and len(set(found.values())) == 16
    assert {architecture["resolution"] for architecture in found.values()} == {160, 224}
    assert found["r224 k7 e6 d4"] == space.largest()
    assert found["r160 k3 e3 d2"] == space.architecture({**space.smallest().values, "resolution": 160})
    mixed = found["r160 k7 e3 d4"]
    assert {mixed[choice.name] for choice in space.choices if choice.kind == "kernel_size"} == {7}
    assert {mixed[choice.name] for choice in space.choices if choice.kind == "expand_ratio"} == {3}


def test_corners_of_a_phase_are_of_its_own_part():
    space = spaces.space("ofa-mobilenetv3-w1.0")
    of = {phase.name: corners(phase.space(space)) for phase in imagenet().phases}
    assert [len(of[name]) for name in ("full", "kernel", "depth1", "depth2", "expand1", "expand2")] == [2, 4, 8, 8, 16, 16]
    assert "r160 k3 e6 d3" in of["depth1"] and "r160 k3 e4 d2" in of["expand1"]


@pytest.mark.parametrize("name", ["bignas", "ofa-resnet50", "mnasnet", "repnas-tiny", "ofa-proxyless-w1.3"])
def test_every_space_has_corners(name):
    space = spaces.space(name)
    found = corners(space)
    assert space.largest() in found.values() or name in ("bignas", "mnasnet")
    assert all(space.architecture(architecture) == architecture for architecture in found.values())


def test_corners_are_judged_after_every_epoch(tmp_path):
    space, images = spaces.space(SPACE), columns()
    run = Run(space, images, RECIPE, 0)
    while run.step < run.steps:
        run.advance()
    assert [[epoch["epoch"] for epoch in phase["epochs"]] for phase in run.history] == [[1, 2], [1]]
    names = [set(epoch["validation_top1"]) for phase in run.history for epoch in phase["epochs"]]
    assert names == [{"r8 k7 e6 d2", "r12 k7 e6 d2"}] * 2 + [{f"r{r} k{k} e{e} d2" for r in (8, 12) for k in (3, 7) for e in (3, 6)}]
    last, data = run.history[-1]["epochs"][-1]["validation_top1"], images
    smallest = RECIPE.phases[1].space(space).smallest()
    again = accuracy(space, run.supernet.tensors(), smallest, data.validation_images, data.validation_labels, data.calibration_images())
    assert last["r8 k3 e3 d2"] == again == run.history[-1]["validation_top1"]["smallest"]


@pytest.mark.parametrize("step", [5, 8, 10])
def test_what_epochs_were_judged_at_survives_a_stop(tmp_path, step):
    space, images = spaces.space(SPACE), columns()
    whole = train(space, images, RECIPE, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(space, images, RECIPE, tmp_path / "stopped", progress=stop_at(step), checkpoint_steps=1)
    assert train(space, images, RECIPE, tmp_path / "stopped").history == whole.history


def test_only_the_first_process_judges(monkeypatch):
    space, images = spaces.space(SPACE), columns()
    run = Run(space, images, RECIPE, 0)
    monkeypatch.setattr(run_module, "accuracy", lambda *arguments: pytest.fail("judged"))
    run.machine = replace(run.machine, group=type("Group", (), {"first": False, "wait": lambda self: None})())
    assert run._judged({"one": space.largest()}, run.supernet.tensors()) == {}


def test_channels_are_sorted_where_a_phase_begins_by_what_was_trained_before_it(monkeypatch):
    space, images = spaces.space("ofa-resnet50-tiny-w0.5:resolutions=8,classes=3"), columns()
    still = 1e-30  # a rate at which weights stay as they are
    recipe = Recipe("sorted", tuple(
        Phase(name, 1, rate, restriction, ("random",), actions=actions) for name, rate, restriction, actions in (
            ("full", 0.05, FULL_RESNET, ()), ("expand", still, FULL_WIDTH, ("sort_channels",)), ("width", still, {}, ("sort_channels",)),
        )
    ), batch_size=16)  # fmt: skip
    run, ends = Run(space, images, recipe, 0), []
    while run.step < run.steps:
        before = run.step
        run.advance()
        if run.history and len(run.history) > len(ends):
            ends.append({name: tensor.detach().clone() for name, tensor in run.supernet.tensors().items()})
        assert run.step == before + 1
    full, expand = (phase.space(space) for phase in recipe.phases[:2])
    by_hand = [sorted_channels(ends[0], space, full), sorted_channels(ends[1], space, expand)]
    for found, expected in zip(ends[1:], by_hand, strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(ends[1]["stem.conv.weight"], ends[0]["stem.conv.weight"]) and not torch.equal(
        ends[1]["stage1.block0.spatial.weight"], ends[0]["stage1.block0.spatial.weight"]
    )
