"""Recipes: frozen dataclasses with a default for every field, whose types say in what range its numbers lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Literal, TypeVar, get_args, get_origin, get_type_hints

from trainer.runtime.errors import FieldError
from trainer.runtime.models.ranges import Fraction, Range, Rate, Weight

R = TypeVar("R", bound="BaseRecipe")


class RecipeError(FieldError):
    """A recipe or a model name is wrong."""


@dataclass(frozen=True)
class BaseRecipe:
    """What a recipe derives from: its numbers are checked wherever one is made.

    A field marks its range in its type: `width: Size = 64`, `dropout: tuple[Fraction, ...] = ()`, or with a `Range`
    of its own. What fields must fulfil together is checked by a `__post_init__` that calls this one first.
    """

    def __post_init__(self) -> None:
        """Check every number against the range that its field's type names.

        Raises:
            RecipeError: If one is out of range, or no number.
        """
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if (marked := _marked(hint)) is None:
                continue
            for place, value in _leaves(name, getattr(self, name)):
                if value is not None or type(None) not in get_args(hint):
                    _check(place, value, *marked)


@dataclass(frozen=True)
class Optimizer(BaseRecipe):
    """How a model wants to be trained; the trainer builds the optimisers.

    Args:
        name: Optimiser of the dense part.
        lr: Its learning rate.
        decay: Whether the rate falls to zero, linearly, over the epochs that are planned.
        beta1: First decay of Adam.
        beta2: Second decay of Adam.
        eps: Term in the denominator.
        weight_decay: Decay of the dense part's weights.
        initial_accumulator: Where the sums of squares of the dense part's Adagrad start.
        table_lr: Learning rate of the Adagrad of the embedding tables where they are sharded.
        table_initial_accumulator: Where the sums of squares of the tables start.
        table_exact: Adagrad with one accumulator a weight instead of one a row.

    Example:
        >>> Optimizer(lr=-1.0)
        Traceback (most recent call last):
        trainer.runtime.models.recipe.RecipeError: out of range: lr = -1.0; use more than 0 and at most 1e+30
    """

    name: Literal["adam", "adagrad"] = "adam"
    lr: Rate = 1e-3
    decay: Literal["none", "linear"] = "none"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Rate = 1e-8
    weight_decay: Weight = 0.0
    initial_accumulator: Weight = 0.0
    table_lr: Rate = 0.05
    table_initial_accumulator: Weight = 0.0
    table_exact: bool = False


@dataclass(frozen=True)
class ModelRecipe(BaseRecipe):
    """What every model can be told.

    Args:
        optimizer: How the model wants to be trained.
    """

    optimizer: Optimizer = field(default_factory=Optimizer)


def load(kind: type[R], values: Mapping[str, object] | None = None) -> R:
    """A recipe from what `plain` made of one; what the mapping leaves out keeps its default.

    Only names and ranges are checked: types and choices were, where the recipe came in (`trainer/recipes.py`).

    Args:
        kind: The recipe's dataclass.
        values: Field → value; lists stand for tuples, mappings for nested recipes.

    Raises:
        RecipeError: If a field is unknown or a number out of range.

    Example:
        >>> load(Optimizer, {"lr": 0.1}).lr
        0.1
    """
    return _changed(kind(), values or {})


def plain(recipe: BaseRecipe) -> dict[str, object]:
    """The mapping from which `load` makes an equal recipe; it holds JSON's types alone."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in fields(recipe)}


def _changed(default: R, values: Mapping[str, object], prefix: str = "") -> R:
    known = sorted(f.name for f in fields(default))
    for name in values:
        if name not in known:
            remedy = f"use one of: {', '.join(known)}"
            raise RecipeError("unknown field", field=prefix + name, value=values[name], remedy=remedy)
    given = {name: _like(getattr(default, name), value, f"{prefix}{name}.") for name, value in values.items()}
    try:
        return replace(default, **given)
    except RecipeError as error:  # it knows its own field alone
        field = prefix + error.field
        raise RecipeError(error.what, field=field, value=error.value, remedy=error.remedy) from None


def _like(default: object, value: object, prefix: str) -> object:
    if isinstance(default, BaseRecipe) and isinstance(value, Mapping):
        return _changed(default, value, prefix)
    return _tuples(value) if isinstance(default, tuple) else value


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _plain(value: object) -> object:
    if isinstance(value, BaseRecipe):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _marked(hint: object) -> tuple[type, Range] | None:
    """The type of the numbers that a type marks, at whatever depth, and their range."""
    args = get_args(hint)
    if get_origin(hint) is Annotated:
        return next(((args[0], mark) for mark in args[1:] if isinstance(mark, Range)), None)
    return next((found for arg in args if (found := _marked(arg)) is not None), None)


def _check(place: str, value: object, number: type, wanted: Range) -> None:
    whole = number is int
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        remedy = f"use {'a whole number' if whole else 'a number'}, {wanted}"
        raise RecipeError("wrong type", field=place, value=value, remedy=remedy)
    if value not in wanted:
        raise RecipeError("out of range", field=place, value=value, remedy=f"use {wanted}")


def _leaves(place: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _leaves(f"{place}[{position}]", item)
    else:
        yield place, value
