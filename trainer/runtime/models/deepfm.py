"""DeepFM (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, LinearTerm, count_fields, fields_space, task_of
from trainer.runtime.models.layers.interaction import fm_pairs
from trainer.runtime.models.layers.mlp import MLP, Activation
from trainer.runtime.models.ranges import Fraction, Size
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class DeepFMRecipe(FieldsRecipe):
    """Recipe.

    Args:
        hidden: Widths of the deep part (the paper: three layers of 400, "constant").
        activate: Its activation (the paper: ReLU).
        dropout: Share dropped after each hidden layer (the paper: 0.5).
        batch_norm: Whether to normalise before each activation.
    """

    hidden: tuple[Size, ...] = (400, 400, 400)
    activate: Activation = "relu"
    dropout: Fraction = 0.5
    batch_norm: bool = False


class DeepFM(RankingModel):
    """ŷ = σ(y_FM + y_DNN); both read the same embeddings."""

    Recipe = DeepFMRecipe

    def __init__(self, schema: Schema, recipe: DeepFMRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe)
        self.linear = LinearTerm(schema, recipe)
        self.fields = Fields(schema, recipe, "main", recipe.width)
        self.deep = MLP(
            count_fields(schema, recipe) * recipe.width,
            recipe.hidden,
            output=1,
            activate=recipe.activate,
            dropout=recipe.dropout,
            batch_norm=recipe.batch_norm,
        )

    @classmethod
    def spaces(cls, schema: Schema, recipe: DeepFMRecipe) -> tuple[Space, ...]:
        """`main` for factors and deep part, `linear` for the first order."""
        return fields_space(schema, recipe, "main", recipe.width), fields_space(schema, recipe, "linear", 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        x_SFD = self.fields(batch)
        deep_S = self.deep(x_SFD.flatten(1)).squeeze(1)
        return {self.task: self.linear(batch) + fm_pairs(x_SFD) + deep_S}
