# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Two processes that torchrun starts on this computer, joined by gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks.checkpoint import read_tensors, supernet_metadata
from supernets.networks.functional import batch_norm
from supernets.networks.gates import BranchBudget
from supernets.training import sandwich
from supernets.training.distributed import Group, joined
from supernets.training.loop import train
from supernets.training.machine import Machine
from supernets.training.phases import Phase, Recipe
from supernets.training.repnas import three_phases
from supernets.training.repnas_sampler import BranchSettings
from supernets.training.run import Run
from supernets.training.state import KIND
from tests.test_supernets_training_loop import LARGEST, columns

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parent.parent
OFA = "ofa-mobilenetv3-tiny:resolutions=8/12,classes=3"
BIGNAS = "bignas-tiny:resolutions=8/12,classes=3"
SHRINKING = Recipe(
    "shrinking",
    (
        Phase("full", 1, 0.05, LARGEST, ("largest",), warmup_epochs=0.25),
        Phase("expand1", 1, 0.02, {"expand_ratio": (4, 6), "depth": (2,)}, ("random", "smallest"), teacher="phase_start", distillation_ratio=1.0,
              actions=("sort_channels",)),
        Phase("expand2", 1, 0.02, {}, ("random",), teacher="full_network", distillation_ratio=1.0, actions=("sort_channels",)),
    ),
    batch_size=16, averaging=0.9,
)  # fmt: skip
SANDWICH = replace(sandwich.small(3), batch_size=16, phases=(replace(sandwich.small(3).phases[0], dropout=0.0),))
BRANCHES = BranchSettings(BranchBudget(fraction=0.34), learning_rate=0.05, weight_decay=1e-3)
REPNAS = Recipe("branches", three_phases((1, 1, 1), 0.05), batch_size=16, kernel_transform=False, gradient_norm=5.0, branches=BRANCHES)
CASES = {"shrinking": (OFA, SHRINKING), "sandwich": (BIGNAS, SANDWICH), "repnas": ("repnas-tiny:resolutions=12,classes=3", REPNAS)}
STEPS = 10  # of 12: some of each phase

WORKER = """
import sys
import torch
from tests.test_supernets_training_distributed import CASES, after_ten_steps
from supernets.training.distributed import joined
torch.set_num_threads(1)
with joined() as (group, device):
    assert group.size == 2
    tensors, drawn = after_ten_steps(sys.argv[1], group)
    torch.save({"tensors": tensors, "drawn": drawn}, f"{sys.argv[2]}/{group.rank}.pt")
"""
TRAINER = """
import sys
import torch
from tests.test_supernets_training_distributed import OFA, SHRINKING, columns
from supernets import spaces
from supernets.training.distributed import joined
from supernets.training.loop import train
from supernets.training.machine import Machine
with joined() as (group, device):
    stop = int(sys.argv[2])
    def progress(now):
        if now.step == stop:
            raise SystemExit(3)
    summary = train(spaces.space(OFA), columns(), SHRINKING, sys.argv[1], checkpoint_steps=1, machine=Machine(device, group=group), progress=progress)
    open(f"{sys.argv[1]}-{group.rank}", "w").write(f"{summary.trained_steps} of {summary.steps}, {summary.already_finished}")
"""


def after_ten_steps(case, group):
    """Return the weights after ten steps in float64, with the gates' parameters, and what was drawn."""
    space_name, recipe = CASES[case]
    run = Run(spaces.space(space_name), columns(), recipe, 5, Machine(group=group, dtype=torch.float64))
    losses = [run.advance() for _ in range(STEPS)]
    gates = {f"gates.{name}": tensor.double() for name, tensor in run.state().gates.items()}
    return {name: tensor.detach().clone() for name, tensor in (run.supernet.tensors() | gates).items()}, losses


def torchrun(script, *arguments, check=True):
    """Run a script in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-c", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_weights_of_one_with_the_doubled_batch(case, tmp_path):
    torch.set_num_threads(1)
    torchrun(WORKER, case, tmp_path)
    alone, losses = after_ten_steps(case, Group())
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in alone.items():
        assert tensor.dtype == torch.float64
        assert torch.allclose(both[0]["tensors"][name], tensor, rtol=0, atol=1e-5), name
        assert torch.equal(both[0]["tensors"][name], both[1]["tensors"][name]), name
    assert both[0]["drawn"] == pytest.approx(losses, abs=1e-5) and both[0]["drawn"] == both[1]["drawn"]
    before = Run(spaces.space(CASES[case][0]), columns(), CASES[case][1], 5).supernet.tensors()
    assert any(float((alone[name] - tensor).detach().abs().max()) > 1e-2 for name, tensor in before.items()), "ten steps move weights"


def test_a_whole_training_of_two_processes_can_be_stopped_and_goes_on(tmp_path):
    assert torchrun(TRAINER, tmp_path / "two", 5, check=False).returncode != 0
    assert read_tensors(tmp_path / "two" / "checkpoint.safetensors", KIND)[1]["step"] == 4
    torchrun(TRAINER, tmp_path / "two", 0)
    assert [(tmp_path / f"two-{rank}").read_text() for rank in (0, 1)] == ["8 of 12, False"] * 2
    alone = train(spaces.space(OFA), columns(), SHRINKING, tmp_path / "one")
    history = supernet_metadata(tmp_path / "two" / "supernet.safetensors")["history"]
    losses = [[phase["mean_loss"] for phase in each] for each in (alone.history, history)]
    assert losses[0] == pytest.approx(losses[1], abs=0.1), "float32 rounds otherwise, and may sort channels otherwise"
    assert [phase["validation_top1"].keys() for phase in history] == [{"largest", "smallest"}] * 3
    assert sorted(file.name for file in (tmp_path / "two").iterdir()) == [".lock", "supernet.safetensors"]


def test_a_process_alone_is_the_whole_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as (group, device):
        assert (group, device) == (Group(0, 1), "cpu")
        assert group.first and group.norm is batch_norm
        assert group.part(6) == slice(0, 6) and group.mean(0.5) == 0.5
        group.wait()


def test_each_process_takes_its_part_of_a_batch():
    parts = [np.arange(12)[Group(rank, 3).part(12)].tolist() for rank in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(ValueError, match="a batch of 16 cannot be shared out equally to 3 processes"):
        Group(0, 3).part(16)


@pytest.mark.parametrize(("settings", "message"), [
    ({"device": "tpu"}, "device 'tpu' is unknown to training; expected cpu or cuda"),
    ({"device": "cuda"}, "finds no GPU here"),
    ({"mixed_precision": True}, "mixed precision was asked for on device 'cpu'; it is for GPUs"),
])  # fmt: skip
def test_a_machine_that_cannot_do_it_is_refused(settings, message):
    if settings.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=message):
        Machine(**settings)


def test_on_a_cpu_nothing_is_scaled_nor_halved():
    machine = Machine()
    scaler = machine.loss_scaler()
    assert not scaler.is_enabled() and scaler.state_dict() == {}
    with machine.half_where_safe():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed precision is for GPUs, and there is none here")
def test_a_training_in_mixed_precision_learns_and_goes_on(tmp_path):
    machine = Machine("cuda", mixed_precision=True)
    recipe = replace(SHRINKING, phases=(replace(SHRINKING.phases[0], epochs=8), *SHRINKING.phases[1:]), crop_padding=0, flip=False)
    summary = train(spaces.space(OFA), columns(), recipe, tmp_path, machine=machine)
    assert summary.history[0]["validation_top1"]["largest"] > 0.6
