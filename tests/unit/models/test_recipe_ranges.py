"""A recipe that cannot be trained is refused by name: where it is read, and where it is made in Python."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from features.errors import UsageError
from trainer.flat.recipe import DataRecipe, TrainRecipe
from trainer.recipes import checked_recipe
from trainer.runtime.models.camenn import CameNNRecipe
from trainer.runtime.models.popularity import PopularityRecipe
from trainer.runtime.models.ranges import Fraction, Natural, Range, Rate, Share, Size, Weight
from trainer.runtime.models.recipe import BaseRecipe, Optimizer, RecipeError, load, plain
from trainer.runtime.models.registry import REGISTRY, parse_recipe

KINDS: list[type[BaseRecipe]] = [
    *(ranker.Recipe for ranker in REGISTRY.values()),
    PopularityRecipe,
    Optimizer,
    DataRecipe,
    TrainRecipe,
]
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("model", "recipe", "field"),
    [
        ("camenn", {"width": -8}, "width"),
        ("camenn", {"width": 10}, "heads"),
        ("camenn", {"top_k": 5}, "top_k"),
        ("camenn", {"experts": 0}, "experts"),
        ("camenn", {"alignment_weight": -1.0}, "alignment_weight"),
        ("camenn", {"optimizer": {"lr": 0.0}}, "optimizer.lr"),
        ("fashionbert", {"dropout": 1.5}, "dropout"),
        ("fashionbert", {"masked": 1.5}, "masked"),
        ("fashionbert", {"heads": 7}, "heads"),
        ("marn", {"title_windows": [2, 0]}, "title_windows[1]"),
        ("marn", {"id_widths": {"item_id": 0}}, "id_widths.item_id"),
        ("marn", {"lambda0": NAN}, "lambda0"),
        ("marn", {"optimizer": {"table_lr": INFINITY}}, "optimizer.table_lr"),
        ("din", {"optimizer": {"beta1": 1.0}}, "optimizer.beta1"),
        ("xdeepfm", {"cin": []}, "cin"),
        ("camenn", {"width": "64"}, "width"),
        ("camenn", {"width": 64.5}, "width"),
        ("camenn", {"width": True}, "width"),
        ("camenn", {"optimizer": {"lr": "fast"}}, "optimizer.lr"),
    ],
)
def test_values_out_of_range_are_named(model: str, recipe: dict[str, Any], field: str) -> None:
    """Inside, by the recipe itself; outside, where it is read, by the same name."""
    with pytest.raises(RecipeError) as inside:
        parse_recipe(model, recipe)
    with pytest.raises(UsageError) as outside:
        checked_recipe(model, recipe)
    assert inside.value.field == outside.value.field == field
    assert inside.value.remedy and outside.value.remedy


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ({"width": 0}, "out of range: width = 0; use 1 or more"),
        ({"width": "64"}, "wrong type: width = '64'; use a whole number"),
        ({"optimizer": {"lr": "fast"}}, "wrong type: optimizer.lr = 'fast'; use a number"),
        ({"optimizer": "adam"}, "wrong type: optimizer = 'adam'; use a table"),
        ({"attention": "cross"}, "not one of the choices: attention = 'cross'; use 'joint' or 'prefix'"),
        ({"roles": 1}, "wrong type: roles = 1; use true or false"),
        ({"width": 10}, "does not divide the width: heads = 8; use a divisor of width 10"),
    ],
)
def test_one_line_says_field_value_and_remedy(recipe: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as error:
        checked_recipe("camenn", recipe)
    assert str(error.value) == line


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown field: m\.widht = 3; use one of: .*\bwidth\b") as error:
        checked_recipe("camenn", {"widht": 3}, "m.")
    with pytest.raises(UsageError, match=r"unknown field: optimizer\.rate = 3; use one of: .*\btable_lr\b") as nested:
        checked_recipe("camenn", {"optimizer": {"rate": 3}})
    assert "table_lr" not in str(error.value) and "widht" not in str(nested.value)


def test_a_recipe_made_in_python_is_checked_too() -> None:
    with pytest.raises(RecipeError, match="width = -8"):
        CameNNRecipe(width=-8)
    with pytest.raises(RecipeError, match="lr = 0"):
        replace(Optimizer(), lr=0.0)
    with pytest.raises(RecipeError, match="width = None"):
        CameNNRecipe(width=None)  # type: ignore[arg-type]
    assert TrainRecipe(l2_linear=None).l2_linear is None


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_defaults_are_in_range_and_the_same_wherever_a_recipe_is_made(name: str) -> None:
    recipe = checked_recipe(name, {})
    assert recipe == REGISTRY[name].Recipe() == load(type(recipe), plain(recipe))
    assert checked_recipe(name, plain(recipe)) == recipe


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_of_a_recipe_has_a_range(kind: type[BaseRecipe]) -> None:
    """No range goes by a field's name: one that is added without a marker fails here."""

    def bare(hint: Any) -> bool:
        return hint in (int, float) or (not hasattr(hint, "__metadata__") and any(bare(arg) for arg in get_args(hint)))

    hints = get_type_hints(kind, include_extras=True)
    assert [field.name for field in fields(kind) if bare(hints[field.name])] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_default_and_can_be_read(kind: type[BaseRecipe]) -> None:
    assert is_dataclass(kind) and TypeAdapter(kind).validate_python({}) == kind()


@pytest.mark.parametrize(
    "marked", [Size, Natural, Share, Fraction, Rate, Weight, Range(ge=2), Range(gt=-1, lt=1)], ids=str
)
def test_a_marker_means_the_same_to_pydantic(marked: Any) -> None:
    """What the runtime checks in plain Python and what is checked outside are one thing."""
    hint: Any = Annotated[float, marked] if isinstance(marked, Range) else marked
    number, wanted = hint.__origin__, hint.__metadata__[0]
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    for value in (-1e31, -2, -1, -0.5, 0, 0.5, 1, 2, 1e30, 1e31, INFINITY, -INFINITY, NAN):
        if number is int and not isinstance(value, int):
            continue
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            assert value not in wanted, value
        else:
            assert value in wanted, value
