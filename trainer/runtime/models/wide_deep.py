"""Wide & Deep (Cheng et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.layers.fields import Fields, FieldsRecipe, LinearTerm, count_fields, fields_space, task_of
from trainer.runtime.models.layers.tower import TowerRecipe, tower
from trainer.runtime.models.ranges import Size
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class WideDeepRecipe(TowerRecipe, FieldsRecipe):
    """The deep part has the widths of the paper's Figure 4."""

    hidden: tuple[Size, ...] = (1024, 512, 256)


class WideDeep(RankingModel):
    """ŷ = σ(wide(x) + deep(embeddings of x) + b), learned jointly."""

    Recipe = WideDeepRecipe

    def __init__(self, schema: Schema, recipe: WideDeepRecipe) -> None:
        super().__init__(schema, recipe)
        self.task = task_of(schema, recipe.task)
        self.wide = LinearTerm(schema, recipe)
        self.fields = Fields(schema, recipe, "main", recipe.width)
        self.deep = tower(count_fields(schema, recipe) * recipe.width, recipe)

    @classmethod
    def spaces(cls, schema: Schema, recipe: WideDeepRecipe) -> tuple[Space, ...]:
        """`main` for the deep part, `linear` for the wide one."""
        return fields_space(schema, recipe, "main", recipe.width), fields_space(schema, recipe, "linear", 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of the one task."""
        deep_S = self.deep(self.fields(batch).flatten(1)).squeeze(1)
        return {self.task: self.wide(batch) + deep_S}
