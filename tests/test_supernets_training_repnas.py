# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.branched import branched_forward, calibrate_branches, merged_child
from supernets.networks.branches import branched_slices, has_branches, kept_branches
from supernets.networks.checkpoint import KIND, read_tensors, supernet_metadata
from supernets.networks.functional import forward
from supernets.networks.gates import BranchBudget
from supernets.spaces.repnas import BRANCHES
from supernets.training.images import input_batches
from supernets.training.loop import train
from supernets.training.machine import Machine
from supernets.training.phases import Phase, Recipe
from supernets.training.recipes import recipe as plain_recipe
from supernets.training.repnas import PRESETS, RECIPES, small, three_phases
from supernets.training.repnas_sampler import BUDGETED, CHOSEN, GATED, BranchSampler, BranchSettings
from supernets.training.run import Run
from supernets.training.state import TrainingError, read_state
from tests.test_supernets_training_loop import Stopped, columns, stop_at

pytestmark = pytest.mark.torch

SPACE = "repnas-tiny:skeleton=s,resolutions=12,classes=3"
SETTINGS = BranchSettings(BranchBudget(limit=9), learning_rate=0.05, weight_decay=1e-3)
RECIPE = Recipe("test", three_phases((1, 2, 1), 0.05), batch_size=16, kernel_transform=False, gradient_norm=5.0, branches=SETTINGS)


@pytest.fixture(scope="module")
def images():
    return columns()


@pytest.fixture(scope="module")
def space():
    return spaces.space(SPACE)


@pytest.fixture(scope="module")
def undisturbed(space, images, tmp_path_factory):
    return train(space, images, RECIPE, tmp_path_factory.mktemp("undisturbed"), seed=1)


def sampler(space, **changes):
    return BranchSampler(space, replace(SETTINGS, **changes), seed=0)


def branches(architecture) -> int:
    return sum(value for name, value in architecture.values.items() if name.rpartition(".")[2] in BRANCHES)


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_each_kind_of_child_has_as_many_branches_as_the_budget(space):
    drawn_by = sampler(space)
    for kind in (BUDGETED, GATED, CHOSEN):
        for step in range(5):
            drawn = drawn_by.draw(kind, np.random.default_rng(step))
            assert branches(drawn.architecture) == 9
            assert (len(drawn.gates) == 9) == (kind == GATED)


def test_gates_are_named_like_the_tensors_of_their_branches(space):
    drawn = sampler(space).draw(GATED, np.random.default_rng(0))
    kept = {name.replace(".branch", ".conv.branch") for name, value in drawn.architecture.values.items() if "branch" in name and value}
    assert set(drawn.gates) == kept


def test_only_learned_gates_see_what_was_learned(space):
    drawn_by = sampler(space)
    with torch.no_grad():
        drawn_by.gates.alpha[:9] = 50.0
    first = drawn_by.gates.candidates[:9]
    for kind, always in ((BUDGETED, False), (GATED, True), (CHOSEN, True)):
        found = [all(drawn_by.draw(kind, np.random.default_rng(step)).architecture[name] for name in first) for step in range(5)]
        assert all(found) == always
    assert all(drawn_by.chosen()[name] for name in first)


def test_a_random_start_chooses_a_random_set_that_its_seed_decides(space):
    chosen = [BranchSampler(space, replace(SETTINGS, start="random"), seed).chosen() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert branches(chosen[2]) == 9


def test_a_step_moves_selected_gates_and_the_decay_falls_to_none(space):
    drawn_by = sampler(space)
    gates = drawn_by.draw(GATED, np.random.default_rng(0)).gates
    sum(gates.values()).backward()
    drawn_by.learn(0.5)
    moved = drawn_by.gates.alpha.detach() < 0
    assert int(moved.sum()) == 9
    assert drawn_by._optimizer.param_groups[0]["weight_decay"] == pytest.approx(1e-3 * 0.5)
    before = drawn_by.gates.alpha.detach().clone()
    drawn_by.learn(0.6)  # nothing was learned since
    assert torch.equal(drawn_by.gates.alpha, before)


def test_gates_learn_alike_from_scaled_gradients_and_not_from_infinite_ones(space):
    alphas = []
    for scale in (1.0, 2.0**16):
        drawn_by = sampler(space)
        for step in range(3):
            gates = drawn_by.draw(GATED, np.random.default_rng(step)).gates
            (scale * sum(gate * number for number, gate in enumerate(gates.values()))).backward()
            assert drawn_by.learn(0.5, scale)
        alphas.append(drawn_by.gates.alpha.detach().clone())
    assert alphas[0].any() and torch.equal(*alphas)
    (math.inf * drawn_by.gates.alpha.sum()).backward()
    assert not drawn_by.learn(0.5, scale)
    assert torch.equal(drawn_by.gates.alpha, alphas[1]) and drawn_by.gates.alpha.grad is None


# --- training ---------------------------------------------------------------------------------------------------------


def test_gates_stay_learn_and_stay_as_the_phases_say(space, images, tmp_path):
    alpha = {}

    def progress(now):
        if now.step in (5, 9, 13, 16):  # phases end after steps 4, 12 and 16; the checkpoint is of the step before
            alpha[now.step] = read_state(tmp_path, settings).gates["alpha"]

    settings = {"space": space.name, "seed": 1, "recipe": json.loads(json.dumps(RECIPE.to_dict())), "images_sha256": images.fingerprint}
    train(space, images, RECIPE, tmp_path, 1, progress=progress, checkpoint_steps=1)
    assert not alpha[5].any()
    assert alpha[9].any()
    assert not torch.equal(alpha[9], alpha[13])
    assert torch.equal(alpha[13], alpha[16])


def gated_run(space, images, scale: float | None = None, decay: float = 5e-2) -> Run:
    """Return a run whose gates learn from its first step on; with a scale as in mixed precision, of which no forward pass is."""
    recipe = replace(RECIPE, phases=(Phase("search", 4, 0.05, children=(GATED,)),), branches=replace(SETTINGS, weight_decay=decay))
    run = Run(space, images, recipe, 5)
    if scale is not None:
        run._scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return run


def alpha_of(run: Run):
    return run.state().gates["alpha"].clone()


def test_gates_learn_the_same_whatever_the_loss_is_scaled_by(space, images):
    runs = [gated_run(space, images, scale) for scale in (None, 1.0, 2.0**16)]
    for run in runs:
        for _ in range(4):
            run.advance()
    assert alpha_of(runs[0]).any()
    for run in runs[1:]:
        assert torch.equal(alpha_of(run), alpha_of(runs[0]))


def test_a_step_in_which_scaled_gradients_overflow_moves_neither_weights_nor_gates(space, images):
    run = gated_run(space, images, math.inf)
    weights = {name: tensor.detach().clone() for name, tensor in run.supernet.tensors().items()}
    run.advance()
    assert not alpha_of(run).any()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.supernet.tensors().items())
    run._scaler.update(2.0**16)
    run.advance()
    assert alpha_of(run).any() and alpha_of(run).isfinite().all()


def test_gates_whose_gradients_alone_overflow_lower_the_scale(space, images):
    run = gated_run(space, images, 2.0**10)
    weights = {name: tensor.detach().clone() for name, tensor in run.supernet.tensors().items()}
    hook = run._sampler.gates.alpha.register_hook(lambda gradient: gradient * math.inf)
    run.advance()
    assert not alpha_of(run).any() and run._scaler.get_scale() == 2.0**9
    assert any(not torch.equal(tensor, weights[name]) for name, tensor in run.supernet.tensors().items())
    hook.remove()
    run.advance()
    assert alpha_of(run).any() and run._scaler.get_scale() == 2.0**9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_a_gpu_trains_judges_and_merges_what_gates_choose(space, images, tmp_path, mixed_precision):
    summary = train(space, images, RECIPE, tmp_path, machine=Machine("cuda", mixed_precision))
    assert [entry["phase"] for entry in summary.history] == ["random", "search", "fixed"]
    assert summary.history[-1]["mean_loss"] < summary.history[0]["mean_loss"]


def test_training_ends_with_the_branches_that_the_gates_are_highest_for(space, undisturbed):
    assert [entry["phase"] for entry in undisturbed.history] == ["random", "search", "fixed"]
    found = [entry.get("architecture") for entry in undisturbed.history]
    assert found[0] is None
    assert found[1] == found[2]
    architecture = space.architecture(found[2])
    assert branches(architecture) == 9
    assert set(undisturbed.history[0]["validation_top1"]) == {"largest", "smallest"}
    assert set(undisturbed.history[2]["validation_top1"]) == {"chosen"}


def test_the_trained_network_is_merged_and_judged_as_it_was_trained(space, images, undisturbed):
    tensors, metadata = read_tensors(undisturbed.weights, KIND)
    assert metadata["own_branch_weights"] is False
    entry = metadata["history"][-1]
    architecture = space.architecture(entry["architecture"])
    blocks, batches = space.blocks(architecture), list(input_batches(images.calibration_images(), 12, 256))
    kept, child = kept_branches(blocks, architecture), branched_slices(blocks, tensors, kept_branches(blocks, architecture))
    (shown,) = input_batches(images.validation_images, 12, 256)
    branched = branched_forward(blocks, shown, {**child, **calibrate_branches(blocks, child, kept, batches)}, kept)
    plain = forward(blocks, shown, merged_child(space, tensors, architecture, batches))
    torch.testing.assert_close(plain, branched, rtol=1e-4, atol=1e-4)
    hits = float((branched.argmax(1) == torch.from_numpy(images.validation_labels)).double().mean())
    assert hits == pytest.approx(entry["validation_top1"]["chosen"])
    assert entry["mean_loss"] < metadata["history"][0]["mean_loss"]


def test_a_stopped_training_ends_with_the_same_bits(space, images, undisturbed, tmp_path):
    for step in (3, 7, 14):
        with pytest.raises(Stopped):
            train(space, images, RECIPE, tmp_path, 1, progress=stop_at(step), checkpoint_steps=2)
    again = train(space, images, RECIPE, tmp_path, 1)
    assert again.trained_steps < again.steps
    assert list(again.history) == list(undisturbed.history)
    ours, theirs = (read_tensors(summary.weights, KIND)[0] for summary in (again, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert train(space, images, RECIPE, tmp_path, 1).already_finished


def test_branches_may_have_kernels_of_their_own(space, images, tmp_path):
    recipe = replace(RECIPE, branches=replace(SETTINGS, own_weights=True, budget=BranchBudget(fraction=0.34, skip="forced")),
                     phases=three_phases((0.5, 0.5, 0.5), 0.05))  # fmt: skip
    summary = train(space, images, recipe, tmp_path)
    assert supernet_metadata(summary.weights)["own_branch_weights"] is True
    assert "stage1.block0.conv.branch_1xk.weight" in read_tensors(summary.weights, KIND)[0]
    architecture = space.architecture(summary.history[-1]["architecture"])
    assert all(architecture[choice.name] for choice in space.choices if choice.kind == "branch_skip")


@pytest.mark.parametrize(("space_name", "recipe", "message"), [
    (SPACE, replace(plain_recipe("small"), name="plain"), "has branches to choose, recipe 'plain' trains none"),
    ("repvgg-tiny:resolutions=12,classes=3", RECIPE, "has no branches to choose, recipe 'test' trains some"),
])  # fmt: skip
def test_a_recipe_for_another_kind_of_space_is_refused(space_name, recipe, message, images, tmp_path):
    with pytest.raises(TrainingError, match=message):
        train(spaces.space(space_name), images, recipe, tmp_path)


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_three_phases_share_one_cosine():
    phases = three_phases((15, 35, 100), 0.1)
    rates = [phase.learning_rate_at(step, 10) for phase in phases for step in range(phase.steps(10))]
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 1500)) for step in range(1500)])


def test_presets_keep_as_many_branches_as_their_source_says():
    space = spaces.space("repnas")
    assert has_branches(space)
    assert not has_branches(spaces.space("repvgg"))
    paper, release = (BranchSampler(space, PRESETS[name]().branches) for name in ("paper", "release"))
    assert len(paper.gates.candidates) == 149
    assert branches(paper.chosen()) == 75
    assert len(release.gates.candidates) == 132
    assert branches(release.chosen()) == 44 + 17
    assert (PRESETS["paper"]().branches.own_weights, PRESETS["release"]().branches.own_weights) == (False, True)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_told_by_json_and_come_back(name):
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert [phase.children for phase in recipe.phases] == [(BUDGETED,), (GATED,), (CHOSEN,)]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_ablation_differs_in_the_choice_alone():
    searched, random = small(), small(start="random", learned=False)
    assert [phase.children for phase in random.phases] == [(BUDGETED,), (BUDGETED,), (CHOSEN,)]
    assert searched.branches.budget == random.branches.budget
    rates = [[phase.learning_rate_at(3, 50) for phase in recipe.phases] for recipe in (searched, random)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe("r", (Phase("p", 1, 0.1, children=("gated",)),)), "draws branches, but the recipe has no `branches`"),
        (lambda: replace(RECIPE, phases=(Phase("p", 1, 0.1, teacher="phase_start", distillation_ratio=1.0),)), "has a teacher or actions"),
        (lambda: replace(RECIPE, gradient_norm=0.0), "gradient_norm of recipe 'test' is 0.0"),
        (lambda: Phase("p", 5, 0.1, part_of=(2, 6)), "part_of \\(2, 6\\)"),
        (lambda: replace(SETTINGS, start="late"), "start of gates is 'late'; expected one of equal, random"),
        (lambda: replace(SETTINGS, betas=(0.5, 1.0)), "betas \\(0.5, 1.0\\)"),
        (lambda: BranchSettings.from_dict({"budget": {"limit": 3}, "kernels": "own"}), "no field 'kernels'"),
        (lambda: BranchSettings.from_dict({"budget": {"limit": 3, "per": "block"}}), "no field 'per'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
