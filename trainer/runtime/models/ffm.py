"""Field-aware factorization machine (Juan et al. 2016, Eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, LinearTerm, count_fields, fields_space, task_of
from trainer.runtime.models.layers.interaction import FieldAwarePairs
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import RecipeError
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class FFMRecipe(FieldsRecipe):
    """Recipe.

    Args:
        width: Width of each of a value's F − 1 vectors (the paper's k).
        linear: Whether first-order weights and a bias are added; the paper leaves them out, its software too.
    """

    width: Size = 4
    linear: bool = True


class FFM(RankingModel):
    """ŷ = σ(Σ_{f<g} ⟨v_{f,g}, v_{g,f}⟩ + linear part): every value has a vector for each other field."""

    Recipe = FFMRecipe

    def __init__(self, schema: Schema, recipe: FFMRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        fields = count_fields(schema, recipe)
        self.linear = LinearTerm(schema, recipe) if recipe.linear else None
        self.fields = Fields(schema, recipe, "aware", _width(schema, recipe))
        self.pairs = FieldAwarePairs(fields, recipe.width)

    @classmethod
    def spaces(cls, schema: Schema, recipe: FFMRecipe) -> tuple[Space, ...]:
        """`aware`, (F − 1) · width wide, and `linear`."""
        aware = fields_space(schema, recipe, "aware", _width(schema, recipe))
        return (aware, fields_space(schema, recipe, "linear", 1)) if recipe.linear else (aware,)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        logits_S: Tensor = self.pairs(self.fields(batch))
        if self.linear is not None:
            logits_S = logits_S + self.linear(batch)
        return {self.task: logits_S}


def _width(schema: Schema, recipe: FFMRecipe) -> int:
    fields = count_fields(schema, recipe)
    if fields < 2:
        raise RecipeError("pairs need two fields", field="fields", value=recipe.fields, remedy="use two, or lr")
    return (fields - 1) * recipe.width
