"""Attentional factorization machine (Xiao et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.factor_ranker import FactorRanker
from trainer.runtime.models.layers.fields import FieldsRecipe, count_fields
from trainer.runtime.models.layers.interaction import AttentionalPairs
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class AFMRecipe(FieldsRecipe):
    """Recipe.

    Args:
        attention_width: Width t of the attention network.
        dropout: Share dropped of the attention weights, and of the pooled vector; the paper drops the latter.
    """

    attention_width: Size = 16
    dropout: tuple[Fraction, Fraction] = (0.0, 0.0)


class AFM(FactorRanker):
    """ŷ = σ(w₀ + Σ w_f + pᵀ Σ_{f<g} a_fg (v_f ⊙ v_g))  (Eq. 6)."""

    Recipe = AFMRecipe

    def __init__(self, schema: Schema, recipe: AFMRecipe) -> None:
        super().__init__(schema, recipe)
        self.pairs = AttentionalPairs(
            count_fields(schema, recipe), recipe.width, recipe.attention_width, recipe.dropout
        )
        self.project = nn.Linear(recipe.width, 1, bias=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        pooled_SD = self.pairs(self.fields(batch))
        return {self.task: self.linear(batch) + self.project(pooled_SD).squeeze(1)}
