# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.checkpoint import CheckpointError, load_supernet, read_tensors, supernet_metadata
from supernets.training import loop
from supernets.training import run as run_module
from supernets.training.data import ImageData
from supernets.training.loop import train
from supernets.training.phases import Phase, Recipe
from supernets.training.run import Run
from supernets.training.state import KIND, TrainingError, locked

pytestmark = pytest.mark.torch

LARGEST = {"kernel_size": (7,), "expand_ratio": (6,), "depth": (2,)}
RECIPE = Recipe(
    "test",
    (
        Phase("full", 2, 0.05, LARGEST, ("largest",), warmup_epochs=0.5),
        Phase("expand1", 1, 0.02, {"expand_ratio": (4, 6), "depth": (2,)}, ("random", "smallest"), teacher="phase_start", distillation_ratio=1.0,
              dropout=0.2, actions=("sort_channels",)),
        Phase("expand2", 1, 0.02, {"depth": (2,)}, ("random",), teacher="full_network", distillation_ratio=0.5, actions=("sort_channels",),
              resolution="own"),
    ),
    batch_size=16,
)  # fmt: skip


class Stopped(Exception):
    pass


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright column where the label says."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 60, (count, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 4 * label : 4 + 4 * label] += 150
    return images, labels.astype(np.int64)


def columns() -> ImageData:
    parts = [array for seed, count in enumerate((64, 24, 24)) for array in pictures(count, seed)]
    return ImageData("columns", ("left", "middle", "right"), *parts)


@pytest.fixture(scope="module")
def images():
    return columns()


@pytest.fixture(scope="module")
def space():
    return spaces.space("ofa-mobilenetv3-tiny:resolutions=8/12,classes=3")


@pytest.fixture(scope="module")
def undisturbed(space, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(space, images, RECIPE, folder)


def weights(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_supernet(path).state_dict().items()}


def stop_at(step: int):
    def progress(now):
        if now.step == step:
            raise Stopped

    return progress


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(space, images, undisturbed, tmp_path, every):
    for step in (1, 2, 5, 8, 9, 12, 15):  # inside phases, at their ends and right after
        with pytest.raises(Stopped):
            train(space, images, RECIPE, tmp_path, progress=stop_at(step), checkpoint_steps=every)
    summary = train(space, images, RECIPE, tmp_path, checkpoint_steps=every)
    assert 0 < summary.trained_steps < summary.steps == 16
    assert weights(summary.weights) == weights(undisturbed.weights)
    assert summary.history == undisturbed.history


def test_a_finished_run_repeated_does_nothing(space, images, undisturbed):
    before = undisturbed.weights.read_bytes()
    summary = train(space, images, RECIPE, undisturbed.weights.parent)
    assert summary.already_finished and summary.trained_steps == 0 and summary.steps == 16
    assert undisturbed.weights.read_bytes() == before and summary.history == undisturbed.history


def test_the_finished_folder_holds_the_weights_and_no_checkpoint(undisturbed):
    assert sorted(file.name for file in undisturbed.weights.parent.iterdir()) == [".lock", "supernet.safetensors"]


def test_metadata_tell_how_the_weights_were_made(space, images, tmp_path):
    summary = train(space, images, replace(RECIPE, phases=RECIPE.phases[:1]), tmp_path, seed=5, provenance={"command": "profiler train"})
    metadata = supernet_metadata(summary.weights)
    settings, origin = metadata["settings"], metadata["provenance"]
    assert (settings["space"], settings["seed"], settings["images_sha256"]) == (space.name, 5, images.fingerprint)
    assert Recipe.from_dict(settings["recipe"]) == replace(RECIPE, phases=RECIPE.phases[:1])
    assert (origin["command"], origin["images"], origin["threads"]) == ("profiler train", "columns", 1)
    assert metadata["history"][0]["validation_top1"].keys() == {"largest", "smallest"}


def test_corners_that_are_one_network_are_judged_once(space, images, monkeypatch):
    judged, original = [], run_module.accuracy
    monkeypatch.setattr(run_module, "accuracy", lambda *arguments: (judged.append(arguments[2]), original(*arguments))[1])
    one = {"kernel_size": (3,), "expand_ratio": (3,), "depth": (2,), "resolution": (12,)}
    phases = [replace(RECIPE.phases[0], name=str(sides), epochs=1, restriction={**one, "resolution": sides}) for sides in ((12,), (8, 12))]
    run = Run(space, images, replace(RECIPE, phases=tuple(phases)), 0)
    while run.step < run.steps:
        run.advance()
    assert [network["resolution"] for network in judged] == [12, 12, 8]
    first, second = (entry["validation_top1"] for entry in run.history)
    assert set(first) == set(second) == {"largest", "smallest"} and first["largest"] == first["smallest"]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("change", "message"), [
    ({"seed": 1}, "seed 0, not 1"),
    ({"recipe": replace(RECIPE, phases=(replace(RECIPE.phases[0], learning_rate=0.5), *RECIPE.phases[1:]))},
     r"recipe.phases\[0\].learning_rate 0.05"),
    ({"space": "ofa-mobilenetv3-tiny:resolutions=8,classes=3"}, "space 'ofa-mobilenetv3-tiny:resolutions=8/12,classes=3', not"),
    ({"images": 9}, "images_sha256"),
])  # fmt: skip
def test_a_folder_of_another_training_is_refused(space, images, tmp_path, undisturbed, change, message, finished):
    if finished:
        (tmp_path / "supernet.safetensors").write_bytes(undisturbed.weights.read_bytes())
    else:
        with pytest.raises(Stopped):
            train(space, images, RECIPE, tmp_path, progress=stop_at(2), checkpoint_steps=1)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    asked = {"space": space, "images": images, "recipe": RECIPE, **change}
    asked["space"] = spaces.space(asked["space"]) if isinstance(asked["space"], str) else asked["space"]
    if isinstance(asked["images"], int):
        asked["images"] = replace(images, test_labels=(images.test_labels + 1) % 3)
    with pytest.raises(TrainingError, match=message):
        train(**asked, folder=tmp_path)
    assert files.items() <= {file.name: file.read_bytes() for file in tmp_path.iterdir()}.items()


def test_a_damaged_checkpoint_is_refused_not_ignored(space, images, tmp_path):
    with pytest.raises(Stopped):
        train(space, images, RECIPE, tmp_path, progress=stop_at(2), checkpoint_steps=1)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(space, images, RECIPE, tmp_path)


def test_images_that_do_not_fit_the_space_are_refused(images, tmp_path):
    with pytest.raises(TrainingError, match="image_channels=1,classes=3, space 'ofa-mobilenetv3-tiny' has image_channels=1,classes=10"):
        train(spaces.space("ofa-mobilenetv3-tiny"), images, RECIPE, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_fewer_images_than_a_batch_are_refused(space, images, tmp_path):
    with pytest.raises(TrainingError, match="64 training images are less than a batch of 65"):
        train(space, images, replace(RECIPE, batch_size=65), tmp_path)


def test_a_loss_that_is_no_number_stops_the_training(space, images, tmp_path):
    wild = replace(RECIPE, phases=(replace(RECIPE.phases[0], learning_rate=1e30),))
    with pytest.raises(TrainingError, match="the loss became .* lower the phase's learning_rate"):
        train(space, images, wild, tmp_path)
    assert not (tmp_path / "supernet.safetensors").exists()


def test_two_trainings_cannot_share_a_folder(space, images, tmp_path):
    with locked(tmp_path), pytest.raises(TrainingError, match="in use by another training"):
        train(space, images, RECIPE, tmp_path)


def test_another_seed_gives_other_weights_and_the_number_of_threads_is_put_back(space, images, undisturbed, tmp_path):
    before = torch.get_num_threads()
    short = replace(RECIPE, phases=(replace(RECIPE.phases[0], epochs=0.6),))
    runs = [train(space, images, short, tmp_path / str(i), seed=seed, threads=threads) for i, (seed, threads) in enumerate([(0, 1), (0, 1), (1, 1)])]
    first, again, other = (weights(run.weights) for run in runs)
    assert first == again and first != other
    assert torch.get_num_threads() == before


def test_training_is_not_moved_by_the_global_generators_nor_moves_them(space, images, undisturbed, tmp_path):
    torch.manual_seed(99)
    np.random.seed(99)
    state = torch.get_rng_state()
    assert weights(train(space, images, RECIPE, tmp_path).weights) == weights(undisturbed.weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_learns(space, images, tmp_path):
    recipe = replace(RECIPE, phases=(replace(RECIPE.phases[0], epochs=8), replace(RECIPE.phases[2], epochs=4)), crop_padding=0, flip=False)
    summary = train(space, images, recipe, tmp_path)
    assert summary.history[0]["mean_loss"] < 1.05  # chance: log 3 = 1.10
    assert summary.history[1]["validation_top1"]["largest"] > 0.6


def test_progress_counts_steps_and_time_on_the_given_clock(space, images, tmp_path):
    seen, now = [], iter(range(10_000))
    train(space, images, RECIPE, tmp_path, progress=seen.append, checkpoint_s=1e9, clock=lambda: float(next(now)))
    assert [p.step for p in seen] == list(range(1, 17)) and {p.steps for p in seen} == {16}
    assert [p.phase for p in seen] == ["full"] * 8 + ["expand1"] * 4 + ["expand2"] * 4
    assert all(p.images_per_s > 0 and p.loss > 0 for p in seen)
    left = [p.seconds_left for p in seen]
    assert left == sorted(left, reverse=True) and left[-1] == 0


def test_checkpoints_are_written_after_the_given_time(space, images, tmp_path):
    ticks = iter(range(10_000))  # a second passes at every look at the clock
    with pytest.raises(Stopped):
        train(space, images, RECIPE, tmp_path, progress=stop_at(7), checkpoint_s=5.0, clock=lambda: float(next(ticks)))
    _, metadata = read_tensors(tmp_path / "checkpoint.safetensors", KIND)
    assert 2 <= metadata["step"] < 7 and metadata["kind"] == KIND


def test_checkpoints_that_take_long_to_write_are_written_seldom(space, images, tmp_path, monkeypatch):
    now_s, written = [0.0], []

    def passes(seconds):
        now_s[0] += seconds

    monkeypatch.setattr(loop, "write_state", lambda folder, state, settings: (written.append(state.step), passes(0.025)))
    train(space, images, RECIPE, tmp_path, progress=lambda _: passes(1.0), checkpoint_s=2.0, clock=lambda: now_s[0])
    assert written == [3, 7, 11, 15], "the first after 2 seconds, the others after more than 2.5"


def test_one_checkpoint_that_took_long_to_write_does_not_put_the_next_off_for_long(space, images, tmp_path, monkeypatch):
    now_s, written = [0.0], []

    def write(folder, state, settings):
        written.append(state.step)
        now_s[0] += 30.0 if len(written) == 1 else 0.01

    def passes(_):
        now_s[0] += 10.0

    monkeypatch.setattr(loop, "write_state", write)
    train(space, images, RECIPE, tmp_path, progress=passes, checkpoint_s=2.0, clock=lambda: now_s[0])
    assert written == [2, 9, 11, 13, 15], "a minute after the first, then after every ten seconds"


KILLED = """
import sys
from tests.test_supernets_training_loop import RECIPE, columns
from supernets import spaces
from supernets.training.loop import train
train(spaces.space("ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"), columns(), RECIPE, sys.argv[1], checkpoint_steps=1)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_20_times_at_random_moments_ends_with_the_same_bits(undisturbed, tmp_path):
    def begun(folder):
        """Return a process that has begun to train."""
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=Path(__file__).parent.parent)
        while process.poll() is None and not (folder / ".lock").exists():
            time.sleep(0.01)
        return process

    start_s = time.monotonic()
    begun(tmp_path / "whole").wait()
    whole_s, rng, kills, folder = time.monotonic() - start_s, np.random.default_rng(5), 0, tmp_path / "killed0"
    while kills < 20:
        process = begun(folder)
        time.sleep(rng.uniform(0, whole_s / 4))
        if process.poll() is None:
            process.kill()
            kills += 1
        elif process.returncode == 0:  # done before the kill: begin afresh, so that 20 kills happen
            assert weights(folder / "supernet.safetensors") == weights(undisturbed.weights)
            folder = tmp_path / f"killed{kills}"
        assert process.wait() in (0, -signal.SIGKILL)
    process = begun(folder)
    assert process.wait() == 0
    assert weights(folder / "supernet.safetensors") == weights(undisturbed.weights)


def test_a_step_adds_nothing_to_what_a_run_keeps():
    run = Run(spaces.space("ofa-mobilenetv3-tiny:resolutions=12,classes=3"), columns(), RECIPE, 0)
    kept = set(vars(run))
    run.advance()
    assert set(vars(run)) == kept
