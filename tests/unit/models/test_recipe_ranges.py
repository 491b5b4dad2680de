"""A recipe that cannot be trained is refused where it is read, by name."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.models.recipe import RecipeError, parse
from trainer.models.registry import REGISTRY, parse_recipe


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
        ("marn", {"title_windows": [2, 0]}, "title_windows"),
        ("marn", {"id_widths": {"item_id": 0}}, "id_widths"),
        ("marn", {"lambda0": float("nan")}, "lambda0"),
        ("marn", {"optimizer": {"table_lr": float("inf")}}, "optimizer.table_lr"),
        ("din", {"optimizer": {"beta1": 1.0}}, "optimizer.beta1"),
        ("xdeepfm", {"cin": []}, "cin"),
    ],
)
def test_values_out_of_range_are_named(model: str, recipe: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe(model, recipe)
    assert error.value.field == field
    assert error.value.remedy


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_defaults_are_in_range(name: str) -> None:
    parse(REGISTRY[name].Recipe, {})
