"""Options that must match each other, whatever files hold: the recipe and the space of a training; the space and the system of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.cli.options import BadOptionError

if TYPE_CHECKING:
    from profiler.pipeline import RunSettings
    from supernets.space import SearchSpace
    from supernets.training.phases import Recipe


def refuse_recipe_of_another_space(wanted: Recipe, space: SearchSpace) -> None:
    """Do nothing where the recipe can train the space.

    Raises:
        BadOptionError: it cannot; the message names those that can.
    """
    from supernets.training.recipes import RECIPES

    why = _mismatch(wanted, space)
    if why:
        fitting = [name for name, make in RECIPES.items() if not _mismatch(make(), space)]
        raise BadOptionError(f"recipe {wanted.name!r} is not for space {space.name!r} ({why}); expected one of {', '.join(fitting)}")


def _mismatch(wanted: Recipe, space: SearchSpace) -> str:
    """Return why the recipe cannot train the space; empty where it can."""
    from supernets.networks.branches import has_branches

    if has_branches(space) != (wanted.branches is not None):
        has, trains = ("has", "trains none") if has_branches(space) else ("has no", "trains some")
        return f"the space {has} branches to choose, the recipe {trains}"
    try:
        for phase in wanted.phases:
            phase.space(space)
    except ValueError as error:
        return str(error)
    return ""


def refuse_mismatched_run(settings: RunSettings) -> None:
    """Do nothing where a run's space, resolutions, system, recipe and training device match; no file is read for it.

    Raises:
        BadOptionError: the space is not for the system, or the recipe not for the space.
        UnknownRecipeError, ValueError: there is no such recipe, resolution or training device, the space is too large for the strategy, or
            there are no weights or images.
    """
    from profiler.collecting import space_to_measure
    from profiler.shipped import weights_and_images
    from search.strategies.exhaustive import refuse_large
    from supernets.networks.branches import has_branches
    from supernets.spaces import space as search_space
    from supernets.training.machine import Machine
    from supernets.training.recipes import recipe

    system, measured = settings.what, space_to_measure(settings.size.space, settings.resolutions)
    Machine(settings.training_device, mixed_precision=settings.training_device.startswith("cuda"))
    if system.strategy == "exhaustive":
        refuse_large(measured)
    if has_branches(measured) != system.branches:
        has, others = ("has", "only 'repnas' does") if has_branches(measured) else ("has no", "ofa, bignas and mnasnet can do with that")
        raise BadOptionError(
            f"system {system.name!r} cannot choose in space {measured.name!r}, which {has} branches ({others}); give another --space or --system"
        )
    weights, _ = weights_and_images(settings, measured.name)
    if system.trains and weights is None:
        refuse_recipe_of_another_space(recipe(settings.size.recipe), search_space(measured.name))
