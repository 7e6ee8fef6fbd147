"""Recipes by name: progressive shrinking (`imagenet`, `small`, `cifar`), the sandwich rule (`bignas…`), searched branches (`repnas-…`)."""

from __future__ import annotations

from collections.abc import Callable

from supernets.training import repnas, sandwich, shrinking
from supernets.training.phases import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {**shrinking.RECIPES, **sandwich.RECIPES, **repnas.RECIPES}


class UnknownRecipeError(KeyError):
    """No recipe has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        UnknownRecipeError: no recipe has that name.
    """
    if name not in RECIPES:
        raise UnknownRecipeError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name]()
