"""The frame of the factorisation machines and their kin: first-order weights beside the fields' vectors."""

from __future__ import annotations

from typing import Any

from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, LinearTerm, fields_space, task_of
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


class FactorRanker(RankingModel):
    """A weight for each value of each field, in the space `linear`, and a vector for each, in the space `main`.

    A subclass adds to `linear` what it makes of the vectors that `fields` gives.

    Args:
        schema: What the data have.
        recipe: The recipe; `width` is the vectors'.
    """

    def __init__(self, schema: Schema, recipe: FieldsRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        self.linear = LinearTerm(schema, recipe)
        self.fields = Fields(schema, recipe, "main", recipe.width)

    @classmethod
    def spaces(cls, schema: Schema, recipe: Any) -> tuple[Space, ...]:
        """`main`, the vectors, and `linear`, the weights."""
        return fields_space(schema, recipe, "main", recipe.width), fields_space(schema, recipe, "linear", 1)
