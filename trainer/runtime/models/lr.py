"""Logistic regression (McMahan et al. 2013, without its per-coordinate FTRL optimiser)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import FieldsRecipe, LinearTerm, fields_space, task_of
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class LRRecipe(FieldsRecipe):
    """A weight for each value of each field; `width` is not used."""


class LR(RankingModel):
    """ŷ = σ(b + Σ_f w_f[x_f]): one weight for each value of each field."""

    Recipe = LRRecipe

    def __init__(self, schema: Schema, recipe: LRRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        self.linear = LinearTerm(schema, recipe)

    @classmethod
    def spaces(cls, schema: Schema, recipe: LRRecipe) -> tuple[Space, ...]:
        """`linear`, of width 1."""
        return (fields_space(schema, recipe, "linear", 1),)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        return {self.task: self.linear(batch)}
