"""DeepFM (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.factor_ranker import FactorRanker
from trainer.runtime.models.layers.fields import FieldsRecipe, count_fields
from trainer.runtime.models.layers.interaction import fm_pairs
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.schema import Schema


@dataclass(frozen=True)
class DeepFMRecipe(TowerRecipe, FieldsRecipe):
    """The deep part is the paper's: three layers of 400 ("constant"), ReLU, dropout 0.5."""

    hidden: tuple[Size, ...] = (400, 400, 400)
    dropout: Fraction = 0.5


class DeepFM(FactorRanker):
    """ŷ = σ(y_FM + y_DNN); both read the same embeddings."""

    Recipe = DeepFMRecipe

    def __init__(self, schema: Schema, recipe: DeepFMRecipe) -> None:
        super().__init__(schema, recipe)
        self.deep = tower(count_fields(schema, recipe) * recipe.width, recipe)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        x_SFD = self.fields(batch)
        deep_S = self.deep(x_SFD.flatten(1)).squeeze(1)
        return {self.task: self.linear(batch) + fm_pairs(x_SFD) + deep_S}
