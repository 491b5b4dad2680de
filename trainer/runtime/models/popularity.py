"""Popularity: the score of an item is what the training window says of it, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainer.runtime.models.batch import Batch
from trainer.runtime.models.ranges import Weight
from trainer.runtime.models.ranker import RankingModel
from trainer.runtime.models.recipe import ModelRecipe
from trainer.runtime.models.schema import Schema, Space


@dataclass(frozen=True)
class PopularityRecipe(ModelRecipe):
    """Configuration of popularity.

    Args:
        task: The label that is counted.
        prior: Views of the mean item that are added to each item's own, so that a lucky one does not lead.
        optimizer: Not used: the weights are counted, not learnt.
    """

    task: str = "cvr"
    prior: Weight = 20.0


class Popularity(RankingModel):
    """Looks the logit of each item up; row 0 has the mean item's.

    Args:
        schema: What the data have; `item_id` is read.
        recipe: Configuration.
    """

    Recipe = PopularityRecipe
    recipe: PopularityRecipe

    @classmethod
    def spaces(cls, schema: Schema, recipe: PopularityRecipe) -> tuple[Space, ...]:  # noqa: ARG003
        """One number an item."""
        return (Space("popularity", 1, ("item_id",)),)

    @classmethod
    def reads(cls, schema: Schema, recipe: PopularityRecipe) -> Schema:
        """The item alone."""
        item = tuple(f for f in schema.features if f.name == "item_id")
        return Schema(features=item, tasks=(recipe.task,))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The item's logit, [S]."""
        return {self.recipe.task: batch.embedded["popularity"]["item_id"][:, 0]}
