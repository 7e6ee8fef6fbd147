# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""What each child of a sandwich step learns from, by its own gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.training import run as run_module
from supernets.training.run import Run
from supernets.training.sandwich import small
from tests.test_supernets_training_loop import columns

pytestmark = pytest.mark.torch


def gradients_of_each_child(labels_moved_by: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Return the gradients of the children of the first step, each alone."""
    images = columns()
    recipe = replace(small(2), batch_size=16)
    space = spaces.space("bignas-tiny:resolutions=8/12,classes=3")
    run = Run(space, replace(images, train_labels=(images.train_labels + labels_moved_by) % 3), recipe, 0)
    with torch.no_grad():
        for name, tensor in run.supernet.tensors().items():
            if name.endswith("project.bn.weight"):
                tensor.fill_(0.5)  # else blocks begin as their shortcuts, and nothing inside them has a gradient
    gradients, original, shared = [], run_module.loss_of, run.supernet.tensors()

    def spy(*arguments):
        loss = original(*arguments)
        found = torch.autograd.grad(loss, list(shared.values()), retain_graph=True, allow_unused=True)
        gradients.append({name: gradient for name, gradient in zip(shared, found, strict=True) if gradient is not None})
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "loss_of", spy)
        run.advance()
    return gradients


def test_other_labels_change_the_gradients_of_the_largest_child_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given, moved = (gradients_of_each_child(by, monkeypatch) for by in (0, 1))
    assert len(given) == len(moved) == 4
    assert given[0].keys() == moved[0].keys() and not any(
        torch.equal(given[0][name], moved[0][name]) for name in ("stem.conv.weight", "classifier.conv.weight")
    )
    for child, other in zip(given[1:], moved[1:], strict=True):
        assert child.keys() == other.keys() and any(gradient.any() for gradient in child.values())
        assert all(torch.equal(child[name], other[name]) for name in child)
