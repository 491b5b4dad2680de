"""Factorization machine of second order (Rendle 2010, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.factor_ranker import FactorRanker
from trainer.runtime.models.layers.fields import FieldsRecipe
from trainer.runtime.models.layers.interaction import fm_pairs


@dataclass(frozen=True)
class FMRecipe(FieldsRecipe):
    """Nothing beside the fields; `width` is k, the factors of an interaction."""


class FM(FactorRanker):
    """ŷ = σ(w₀ + Σ_f w_f + Σ_{f<g} ⟨v_f, v_g⟩)."""

    Recipe = FMRecipe

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        return {self.task: self.linear(batch) + fm_pairs(self.fields(batch))}
