# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.training import shrinking
from supernets.training.phases import Phase, Recipe
from supernets.training.recipes import RECIPES, UnknownRecipeError, recipe

pytestmark = pytest.mark.torch

PHASE = Phase("width", 2.5, 0.1, {"expand_ratio": (4, 6)}, ("largest", "random"), 0.5, "phase_start", 1.0, 0.1, ("sort_channels",), "own")


@pytest.mark.parametrize("name", shrinking.MOBILE)
def test_recipes_shrink_progressively(name):
    whole = spaces.space("ofa-mobilenetv3-tiny")
    phases = recipe(name).phases
    sizes = [phase.space(whole).size() for phase in phases]
    assert sizes == sorted(set(sizes)) and sizes[-1] == whole.size()
    assert sizes[0] == len(whole.choices[0].values), "the first phase trains the largest network at every resolution"
    kinds = [{choice.kind for choice in phase.space(whole).choices if len(choice.allowed) > 1} for phase in phases]
    order = [next(i for i, elastic in enumerate(kinds) if kind in elastic) for kind in ("resolution", "kernel_size", "depth", "expand_ratio")]
    assert order == sorted(set(order))
    assert [phase.actions for phase in phases] == [("sort_channels",) if phase.name.startswith("expand") else () for phase in phases]
    assert phases[0].teacher == "none" and all(phase.teacher != "none" for phase in phases[1:])


@pytest.mark.parametrize("name", shrinking.RESNET)
def test_resnet_recipes_shrink_depth_then_expansion_then_width(name):
    whole = spaces.space("ofa-resnet50-tiny")
    phases = recipe(name).phases
    parts = [phase.space(whole) for phase in phases]
    assert [part.size() for part in parts] == sorted({part.size() for part in parts}) and parts[-1].size() == whole.size()
    assert parts[0].size() == 4 and parts[0].largest() == whole.largest()
    kinds = [{choice.kind for choice in part.choices if len(choice.allowed) > 1} for part in parts]
    assert kinds == [{"resolution"}, {"resolution", "extra_depth", "middle"}, {"resolution", "extra_depth", "middle", "expand_ratio"},
                     {choice.kind for choice in whole.choices}]  # fmt: skip
    assert [phase.actions for phase in phases] == [(), (), ("sort_channels",), ("sort_channels",)], "before inner and before outer widths shrink"


def test_largest_is_each_choices_own_value():
    whole = spaces.space("ofa-resnet50")
    part = Phase("p", 1, 0.1, {"width": ("largest",), "stage1.extra_depth": (0, 1)}).space(whole)
    allowed = {choice.name: choice.allowed for choice in part.choices}
    assert (allowed["stem.width"], allowed["stage4.width"], allowed["stage1.extra_depth"]) == ((64,), (2048,), (0, 1))
    with pytest.raises(ValueError, match="no choice or kind of choice 'wideness'"):
        Phase("p", 1, 0.1, {"wideness": ("largest",)}).space(whole)


def test_the_imagenet_recipe_is_the_published_table():
    of = recipe("imagenet")
    assert [(p.name, p.epochs, p.warmup_epochs, p.learning_rate, len(p.children)) for p in of.phases] == [
        ("full", 180, 0, 2.6, 1), ("kernel", 120, 5, 0.96, 1), ("depth1", 25, 0, 0.08, 2), ("depth2", 120, 5, 0.24, 2),
        ("expand1", 25, 0, 0.08, 4), ("expand2", 120, 5, 0.24, 4),
    ]  # fmt: skip
    assert (of.batch_size, of.momentum, of.weight_decay, of.label_smoothing) == (64 * 32, 0.9, 3e-5, 0.1)
    assert {(p.teacher, p.distillation_ratio, p.dropout, p.resolution) for p in of.phases[1:]} == {("full_network", 1.0, 0.1, "shared")}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    assert Recipe.from_dict(json.loads(json.dumps(recipe(name).to_dict()))) == recipe(name)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(UnknownRecipeError, match="unknown recipe 'smal'; known recipes: imagenet, small, small-long, cifar"):
        recipe("smal")


def test_learning_rate_warms_up_and_falls_as_half_a_cosine():
    rates = [PHASE.learning_rate_at(step, 8) for step in range(PHASE.steps(8))]
    assert len(rates) == 20
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[12] == pytest.approx(0.05) and rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.002


def test_a_phase_has_at_least_one_step():
    assert replace(PHASE, epochs=0.01, warmup_epochs=0).steps(8) == 1
    assert replace(PHASE, epochs=0.01, warmup_epochs=0).learning_rate_at(0, 8) == 0.1


@pytest.mark.parametrize(("change", "message"), [
    ({"children": ("biggest",)}, "children of phase 'width' has 'biggest'"),
    ({"children": ()}, "is empty"),
    ({"actions": ("sort",)}, "actions of phase 'width' has 'sort'"),
    ({"teacher": "someone"}, "teacher of phase 'width' is 'someone'"),
    ({"teacher": "none"}, "one needs the other"),
    ({"distillation_ratio": 0.0}, "one needs the other"),
    ({"resolution": "any"}, "resolution of phase 'width' is 'any'"),
    ({"epochs": 0}, "has 0 epochs"),
    ({"epochs": float("nan")}, "has nan epochs"),
    ({"warmup_epochs": 2.5}, "2.5 of warm-up"),
    ({"learning_rate": 0.0}, "learning_rate 0.0"),
    ({"dropout": 1.0}, "dropout 1.0"),
])  # fmt: skip
def test_phases_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PHASE, **change)


@pytest.mark.parametrize(("change", "message"), [
    ({"phases": ()}, r"are named \[\]"),
    ({"phases": (PHASE, PHASE)}, r"\['width', 'width'\]"),
    ({"batch_size": 1}, "batch_size 1"),
    ({"momentum": 1.0}, "momentum 1.0"),
])  # fmt: skip
def test_recipes_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(Recipe("one", (PHASE,)), **change)


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(ValueError, match="a phase has no field 'lr'"):
        Phase.from_dict({**PHASE.to_dict(), "lr": 1})
    with pytest.raises(ValueError, match="a recipe needs the field 'phases'"):
        Recipe.from_dict({"name": "x"})


def test_a_restriction_the_space_does_not_have_is_refused():
    with pytest.raises(ValueError, match="no choice or kind of choice 'width'"):
        replace(PHASE, restriction={"width": (1,)}).space(spaces.space("ofa-mobilenetv3-tiny"))
