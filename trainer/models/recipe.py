"""Recipes: frozen dataclasses with a default for every field, read from plain mappings such as TOML tables."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

R = TypeVar("R")


class RecipeError(ValueError):
    """A recipe or a model name is wrong.

    Args:
        what: What is wrong, in a few words.
        field: The field that is wrong, with dots for nested ones.
        value: The value found there.
        remedy: What would be right.

    Example:
        >>> print(RecipeError("unknown field", field="widht", value=64, remedy="use one of: width"))
        unknown field: widht = 64; use one of: width
    """

    def __init__(self, what: str, *, field: str, value: object, remedy: str) -> None:
        self.what, self.field, self.value, self.remedy = what, field, value, remedy
        super().__init__(f"{what}: {field} = {value!r}; {remedy}")


@dataclass(frozen=True)
class Optimizer:
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
    """

    name: Literal["adam", "adagrad"] = "adam"
    lr: float = 1e-3
    decay: Literal["none", "linear"] = "none"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    initial_accumulator: float = 0.0
    table_lr: float = 0.05
    table_initial_accumulator: float = 0.0
    table_exact: bool = False

    def __post_init__(self) -> None:
        """Check rates, decays and first sums."""
        check_ranges(self)


def check_ranges(recipe: object, zero: tuple[str, ...] = ("history_items",)) -> None:
    """Check a recipe's numbers by their kind: shares that are dropped, counts and widths, weights and deviations.

    Args:
        recipe: The recipe.
        zero: Counts that may be 0.

    Raises:
        RecipeError: If one is out of range.

    Example:
        >>> check_ranges(Optimizer(lr=-1.0))
        Traceback (most recent call last):
        trainer.models.recipe.RecipeError: out of range: lr = -1.0; use a finite number above 0
    """
    for each in fields(cast(Any, recipe)):
        value = getattr(recipe, each.name)
        numbers = value if isinstance(value, tuple) else tuple(value.values()) if isinstance(value, dict) else (value,)
        numbers = tuple(x for x in numbers if isinstance(x, int | float) and not isinstance(x, bool))
        if each.name in ("lr", "table_lr", "eps"):
            right, remedy = all(0 < x < math.inf for x in numbers), "use a finite number above 0"
        elif each.name == "masked":
            right, remedy = all(0 <= x <= 1 for x in numbers), "use a share from 0 to 1"
        elif each.name.endswith("dropout") or each.name in ("beta1", "beta2"):
            right, remedy = all(0 <= x < 1 for x in numbers), "use a share from 0 to below 1"
        elif each.name in zero or any(isinstance(x, float) for x in numbers):
            right, remedy = all(0 <= x < math.inf for x in numbers), "use 0 or more"
        else:
            right, remedy = all(x >= 1 for x in numbers), "use 1 or more"
        if not right:
            raise RecipeError("out of range", field=each.name, value=value, remedy=remedy)


def parse(kind: type[R], values: Mapping[str, Any] | None = None, prefix: str = "") -> R:
    """A typed recipe from a mapping; what the mapping leaves out keeps its default.

    Args:
        kind: The recipe's dataclass.
        values: Field → value; lists stand for tuples, mappings for nested dataclasses.
        prefix: Put before field names in errors.

    Returns:
        The recipe.

    Raises:
        RecipeError: If a field is unknown or a value has the wrong type.

    Example:
        >>> parse(Optimizer, {"lr": 1}).lr
        1.0
    """
    hints = get_type_hints(kind)
    known: dict[str, Field[Any]] = {f.name: f for f in fields(cast(Any, kind)) if f.init}
    given = {}
    for name, value in (values or {}).items():
        if name not in known:
            raise RecipeError("unknown field", field=prefix + name, value=value, remedy=f"use one of: {_names(known)}")
        factory = known[name].default_factory
        default = known[name].default if factory is MISSING else factory()
        given[name] = _value(hints[name], value, prefix + name, default)
    try:
        return kind(**given)
    except RecipeError as error:  # a range: known by its own name alone
        if not prefix:
            raise
        raise RecipeError(error.what, field=prefix + error.field, value=error.value, remedy=error.remedy) from None


def plain(recipe: object) -> dict[str, Any]:
    """The mapping from which `parse` makes an equal recipe; it holds JSON's types alone."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in fields(cast(Any, recipe)) if f.init}


def _plain(value: object) -> Any:
    if is_dataclass(value):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _names(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known)) or "(this recipe has no fields)"


def _value(hint: Any, value: Any, name: str, default: object = MISSING) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(arg, bool) for arg in args):
            raise RecipeError("not one of the choices", field=name, value=value, remedy=f"use one of: {_list(args)}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [arg for arg in args if arg is not type(None)]
        for position, arg in enumerate(inner):
            try:
                return _value(arg, value, name)
            except RecipeError:
                if position == len(inner) - 1:
                    raise
    if origin is tuple and isinstance(value, list | tuple):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_value(args[0], item, f"{name}[{i}]") for i, item in enumerate(value))
        if len(args) == len(value):
            return tuple(
                _value(arg, item, f"{name}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {_value(args[0], k, name): _value(args[1], v, f"{name}.{k}") for k, v in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            start = plain(default) if isinstance(default, hint) else {}
            return parse(hint, start | dict(value), prefix=f"{name}.")
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    shown = getattr(hint, "__name__", str(hint)) if not args else str(hint)
    raise RecipeError("wrong type", field=name, value=value, remedy=f"give {shown}")


def _list(choices: tuple[object, ...]) -> str:
    return ", ".join(repr(choice) for choice in choices)
