"""Recipes as people write them: checked by the library of `features/configuration.py`, outside the models' runtime."""

from __future__ import annotations

from collections.abc import Mapping

from features.configuration import read
from features.errors import UsageError
from trainer.runtime.models.recipe import ModelRecipe, RecipeError
from trainer.runtime.models.registry import model_class


def checked_recipe(model: str, values: Mapping[str, object], prefix: str = "") -> ModelRecipe:
    """The typed recipe of a model; what the values leave out keeps its default.

    Args:
        model: Registered name.
        values: Field → value, as TOML and JSON have them.
        prefix: Put before field names in errors.

    Raises:
        UsageError: If the model or a field is unknown, or a value of the wrong type, out of range, or at odds with
            another.

    Example:
        >>> checked_recipe("camenn", {"width": 4.5})
        Traceback (most recent call last):
        features.errors.UsageError: wrong type: width = 4.5; use a whole number
    """
    try:
        kind = model_class(model).Recipe
    except RecipeError as error:
        raise usage(error) from None
    return read(kind, values, prefix=prefix)


def usage(error: RecipeError, prefix: str = "") -> UsageError:
    """A recipe's error as one of the command line; `prefix` is put before a field, and not before `model` itself."""
    field = error.field if error.field == "model" else prefix + error.field
    return UsageError(error.what, field=field, value=error.value, remedy=error.remedy)
