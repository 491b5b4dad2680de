"""Factorization machine of second order (Rendle 2010, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, LinearTerm, fields_space, task_of
from trainer.runtime.models.layers.interaction import fm_pairs
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class FMRecipe(FieldsRecipe):
    """Nothing beside the fields; `width` is k, the factors of an interaction."""


class FM(RankingModel):
    """ŷ = σ(w₀ + Σ_f w_f + Σ_{f<g} ⟨v_f, v_g⟩)."""

    Recipe = FMRecipe

    def __init__(self, schema: Schema, recipe: FMRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe)
        self.linear = LinearTerm(schema, recipe)
        self.fields = Fields(schema, recipe, "main", recipe.width)

    @classmethod
    def spaces(cls, schema: Schema, recipe: FMRecipe) -> tuple[Space, ...]:
        """`main`, the factors, and `linear`, the weights."""
        return fields_space(schema, recipe, "main", recipe.width), fields_space(schema, recipe, "linear", 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        return {self.task: self.linear(batch) + fm_pairs(self.fields(batch))}
